-- PostgreSQL would take an address, a path or a number with its sign for one word, in which nothing is found: "example" was
-- not in "www.example.com", nor "7" in "walk-7". What stands between words is made a space first, as SQLite reads it.

create function plain_words(text) returns text language sql immutable strict parallel safe
return translate($1, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32));

alter table media drop column words;
alter table media add column words tsvector not null generated always as (
    to_tsvector('simple', plain_words(title || ' ' || description))
) stored;
create index media_by_words on media using gin (words);

alter table products drop column words;
alter table products add column words tsvector not null generated always as (
    setweight(to_tsvector('simple', plain_words(name)), 'A')
    || setweight(to_tsvector('simple', plain_words(description)), 'B')
) stored;
create index products_by_words on products using gin (words);

alter table workflows drop column words;
alter table workflows add column words tsvector not null generated always as (
    setweight(to_tsvector('simple', plain_words(name)), 'A')
    || setweight(to_tsvector('simple', plain_words(description)), 'B')
) stored;
create index workflows_by_words on workflows using gin (words);
