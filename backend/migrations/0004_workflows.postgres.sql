
-- The words of workflows. They are not cut to their stems, so that both databases find the same.
alter table workflows add column words tsvector not null generated always as (
    setweight(to_tsvector('simple', name), 'A') || setweight(to_tsvector('simple', description), 'B')
) stored;
create index workflows_by_words on workflows using gin (words);
