-- Grows with each change of a playlist or of the order in it, so that a change can say which one it is about.
alter table playlists add column version bigint not null default 1;
