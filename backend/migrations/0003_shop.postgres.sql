
-- The words of products. They are not cut to their stems, so that both databases find the same.
alter table products add column words tsvector not null generated always as (
    setweight(to_tsvector('simple', name), 'A') || setweight(to_tsvector('simple', description), 'B')
) stored;
create index products_by_words on products using gin (words);
