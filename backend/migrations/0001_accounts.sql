-- Who may sign in, where they are signed in, and which tokens must not be believed although they are not over.

create table users (
    id text primary key,
    email text not null unique,
    user_name text not null unique,
    phone text unique,
    display_name text not null,
    password_hash text not null,
    -- Grows with each change; a stored profile of another version is old.
    version bigint not null,
    created_ms bigint not null,
    changed_ms bigint not null
);

create table sessions (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    created_ms bigint not null,
    -- When its newest token was made.
    renewed_ms bigint not null,
    expires_ms bigint not null
);
create index sessions_by_user on sessions (user_id);
create index sessions_by_renewal on sessions (renewed_ms);
create index sessions_by_expiry on sessions (expires_ms);

-- Every token that a session was renewed with. One that is used twice ends the session.
create table refresh_tokens (
    -- Of the token; who reads this table cannot renew a session.
    digest text primary key,
    session_id text not null references sessions (id) on delete cascade,
    -- The access token that was given out beside it.
    access_id text not null,
    access_expires_ms bigint not null,
    used_ms bigint
);
create index refresh_tokens_by_session on refresh_tokens (session_id);
create index refresh_tokens_by_use on refresh_tokens (used_ms);

create table revoked_tokens (
    id text primary key,
    expires_ms bigint not null
);
create index revoked_tokens_by_expiry on revoked_tokens (expires_ms);
