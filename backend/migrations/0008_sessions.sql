-- In the order in which a user sees them, so that a page of many is found without sorting all.
drop index sessions_by_user;
create index sessions_by_user on sessions (user_id, id);
