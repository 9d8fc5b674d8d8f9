-- Sequences of steps, and how far each run through one has come.

create table workflows (
    id text primary key,
    name text not null,
    description text not null,
    category text not null,
    created_ms bigint not null
);
create index workflows_by_category on workflows (category, id);

create table workflow_steps (
    workflow_id text not null references workflows (id) on delete cascade,
    -- From 1 on, without a gap.
    sequence bigint not null check (sequence > 0),
    title text not null,
    prompt text not null,
    require_confirmation boolean not null,
    primary key (workflow_id, sequence)
);

create table runs (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    workflow_id text not null references workflows (id),
    -- As many steps as the workflow has.
    steps bigint not null,
    -- How many of them are done: each raises it by one, in their order.
    done bigint not null check (done >= 0 and done <= steps),
    created_ms bigint not null,
    completed_ms bigint
);
create index runs_by_user on runs (user_id, id);

-- A step is done once in a run, whatever was repeated.
create table run_steps (
    run_id text not null references runs (id) on delete cascade,
    sequence bigint not null,
    done_ms bigint not null,
    primary key (run_id, sequence)
);
