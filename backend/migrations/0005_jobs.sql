-- What is left to do after a request has its answer, and what people are told of it.

create table jobs (
    id text primary key,
    owner_id text not null references users (id) on delete cascade,
    kind text not null,
    -- What it is about. It may be gone by the time that the job is done.
    subject text not null,
    -- How often it was begun.
    attempts bigint not null,
    -- From when on it may be begun: after a pause, or, if somebody has it, when his lease is over.
    due_ms bigint not null,
    -- Of whoever has it now. A change by anybody else is not made.
    lease text,
    -- Of the last attempt that failed.
    fault text,
    -- The span that left it.
    trace_id text not null,
    span_id text not null,
    created_ms bigint not null,
    -- "done" or "failed", once there is nothing left to do.
    outcome text,
    ended_ms bigint
);
create index jobs_by_due on jobs (kind, due_ms) where ended_ms is null;
create index jobs_by_lease on jobs (lease) where lease is not null;
create index jobs_by_owner on jobs (owner_id);
create index jobs_by_end on jobs (ended_ms) where ended_ms is not null;

create table notifications (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    -- The job that made it.
    job_id text not null,
    subject text not null,
    created_ms bigint not null
);
create index notifications_by_user on notifications (user_id, id);
create index notifications_by_time on notifications (created_ms);
