-- Media, what jobs derive of them, and playlists.

create table media (
    id text primary key,
    owner_id text not null references users (id) on delete cascade,
    title text not null,
    description text not null,
    content_type text not null,
    -- Grows with each change.
    version bigint not null,
    created_ms bigint not null,
    changed_ms bigint not null,
    -- Not stemmed, because nobody says in which language it is.
    words tsvector not null generated always as (to_tsvector('simple', title || ' ' || description)) stored
);
create index media_by_words on media using gin (words);
create index media_by_owner on media (owner_id);

-- Of `version` of the item; of an older one, a job is on its way.
create table media_metadata (
    media_id text primary key references media (id) on delete cascade,
    version bigint not null,
    kind text not null,
    words bigint not null,
    text_bytes bigint not null
);

create table media_thumbnails (
    media_id text primary key references media (id) on delete cascade,
    version bigint not null,
    color text not null,
    initials text not null
);

create table playlists (
    id text primary key,
    owner_id text not null references users (id) on delete cascade,
    name text not null,
    is_public boolean not null,
    created_ms bigint not null,
    changed_ms bigint not null
);
create index playlists_by_owner on playlists (owner_id, id);
create index playlists_public on playlists (id) where is_public;

create table playlist_items (
    playlist_id text not null references playlists (id) on delete cascade,
    media_id text not null references media (id) on delete cascade,
    -- Smaller is earlier; there may be gaps.
    place bigint not null,
    primary key (playlist_id, media_id)
);
create index playlist_items_by_place on playlist_items (playlist_id, place);
create index playlist_items_by_media on playlist_items (media_id);
