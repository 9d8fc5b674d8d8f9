-- SQLite reads words between what is no letter and no digit anyway.
select 1;
