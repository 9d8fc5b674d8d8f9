//! The tables of workflows and their runs. Only statements; what they are for is decided by those who send them.

use super::definition::StepDefinition;
use crate::api::{PageQuery, Words};
use crate::store::Query;

/// The workflows of one category, or all, behind a place.
pub fn workflows(category: Option<&str>, page: &PageQuery) -> Query {
    let query = match category {
        // Its own text, so that the index of categories is of use.
        Some(category) => Query::new(
            "workflows_of_category",
            "select w.id, w.name, w.category, \
             (select count(*) from workflow_steps s where s.workflow_id = w.id) as steps \
             from workflows w where w.category = $1 and w.id > coalesce($2, '') order by w.id limit $3",
        )
        .bind(category),
        None => Query::new(
            "workflows",
            "select w.id, w.name, w.category, \
             (select count(*) from workflow_steps s where s.workflow_id = w.id) as steps \
             from workflows w where w.id > coalesce($1, '') order by w.id limit $2",
        ),
    };
    query.bind(page.after().map(str::to_owned)).bind(page.rows())
}

/// Workflows with all these words behind a place; a word in the name counts more than one in the description. Where the
/// page begins is found by ranking all of them, as the order is.
pub fn search(words: &Words, page: &PageQuery) -> Query {
    Query::by_database(
        "workflows_search",
        "with found as materialized (select t.id, bm25(workflow_words, 0.0, 10.0, 1.0) as distance \
         from workflow_words t where workflow_words match '\"' || replace($1, ' ', '\" \"') || '\"*'), \
         page as (select id, distance from found where $2 is null \
         or (distance, id) > (select distance, id from found where id = $2) order by distance, id limit $3) \
         select w.id, w.name, w.category, \
         (select count(*) from workflow_steps s where s.workflow_id = w.id) as steps \
         from page join workflows w on w.id = page.id order by page.distance, w.id",
        "with found as materialized (select w.id, -ts_rank(w.words, wanted) as distance \
         from workflows w, to_tsquery('simple', replace($1, ' ', ' & ') || ':*') wanted where w.words @@ wanted), \
         page as (select id, distance from found where $2 is null \
         or (distance, id) > (select distance, id from found where id = $2) order by distance, id limit $3) \
         select w.id, w.name, w.category, \
         (select count(*) from workflow_steps s where s.workflow_id = w.id) as steps \
         from page join workflows w on w.id = page.id order by page.distance, w.id",
    )
    .bind(words.as_str())
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

pub fn workflow(id: &str) -> Query {
    Query::new("workflow", "select id, name, category, description from workflows where id = $1").bind(id)
}

pub fn steps(workflow: &str) -> Query {
    Query::new(
        "workflow_steps",
        "select sequence, title, prompt, require_confirmation from workflow_steps where workflow_id = $1 \
         order by sequence",
    )
    .bind(workflow)
}

/// Adds a run, unless it is there already because an earlier attempt was committed, or there is no such workflow.
pub fn add_run(id: &str, user: &str, workflow: &str, now_ms: i64) -> Query {
    Query::new(
        "run_add",
        "insert into runs (id, user_id, workflow_id, steps, done, created_ms) \
         select $1, $2, s.workflow_id, count(*), 0, $4 from workflow_steps s where s.workflow_id = $3 \
         group by s.workflow_id on conflict (id) do nothing",
    )
    .bind(id)
    .bind(user)
    .bind(workflow)
    .bind(now_ms)
}

/// The runs of a user, the newest first, that are behind a place.
pub fn runs(user: &str, page: &PageQuery) -> Query {
    Query::new(
        "runs_of_user",
        "select r.*, w.name from runs r join workflows w on w.id = r.workflow_id \
         where r.user_id = $1 and r.id < coalesce($2, 'g') order by r.id desc limit $3",
    )
    .bind(user)
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// A run, if it is this user's.
pub fn run(user: &str, id: &str) -> Query {
    Query::new(
        "run_of_user",
        "select r.*, w.name from runs r join workflows w on w.id = r.workflow_id where r.user_id = $1 and r.id = $2",
    )
    .bind(user)
    .bind(id)
}

/// A run of this user with the step that is next in it, which may be none.
pub fn next(user: &str, run: &str) -> Query {
    Query::new(
        "run_next",
        "select r.id, r.done, r.completed_ms, s.sequence, s.title, s.prompt, s.require_confirmation from runs r \
         left join workflow_steps s on s.workflow_id = r.workflow_id and s.sequence = r.done + 1 \
         where r.user_id = $1 and r.id = $2",
    )
    .bind(user)
    .bind(run)
}

/// A step of a run of this user. Nobody else changes the run until the end of the transaction.
pub fn lock_step(user: &str, run: &str, sequence: i64) -> Query {
    Query::by_database(
        "run_step_lock",
        "select r.done, s.require_confirmation from runs r \
         join workflow_steps s on s.workflow_id = r.workflow_id and s.sequence = $3 \
         where r.user_id = $1 and r.id = $2",
        "select r.done, s.require_confirmation from runs r \
         join workflow_steps s on s.workflow_id = r.workflow_id and s.sequence = $3 \
         where r.user_id = $1 and r.id = $2 for update of r",
    )
    .bind(user)
    .bind(run)
    .bind(sequence)
}

/// A run of this user. Nobody else changes it until the end of the transaction.
pub fn lock_run(user: &str, run: &str) -> Query {
    Query::by_database(
        "run_lock",
        "select done, steps from runs where user_id = $1 and id = $2",
        "select done, steps from runs where user_id = $1 and id = $2 for update",
    )
    .bind(user)
    .bind(run)
}

/// Writes down a step whose turn it is.
pub fn do_step(run: &str, sequence: i64, now_ms: i64) -> [Query; 2] {
    [
        Query::new("run_step_add", "insert into run_steps (run_id, sequence, done_ms) values ($1, $2, $3)")
            .bind(run)
            .bind(sequence)
            .bind(now_ms),
        Query::new("run_advance", "update runs set done = $2 where id = $1").bind(run).bind(sequence),
    ]
}

/// It stays completed since the first time.
pub fn complete_run(run: &str, now_ms: i64) -> Query {
    Query::new("run_complete", "update runs set completed_ms = coalesce(completed_ms, $2) where id = $1")
        .bind(run)
        .bind(now_ms)
}

/// A workflow that is added if it is not there.
pub struct NewWorkflow<'w> {
    pub id: String,
    pub name: &'w str,
    pub description: &'w str,
    pub category: &'w str,
    pub created_ms: i64,
    pub steps: &'w [StepDefinition],
}

pub fn add_workflow(new: &NewWorkflow<'_>) -> [Query; 2] {
    // Of texts and numbers alone, so it can always be written.
    let steps = serde_json::to_string(new.steps).unwrap_or_default();
    [
        Query::new(
            "seed_workflow",
            "insert into workflows (id, name, description, category, created_ms) values ($1, $2, $3, $4, $5) \
             on conflict (id) do nothing",
        )
        .bind(new.id.as_str())
        .bind(new.name)
        .bind(new.description)
        .bind(new.category)
        .bind(new.created_ms),
        Query::by_database(
            "seed_workflow_steps",
            "insert into workflow_steps (workflow_id, sequence, title, prompt, require_confirmation) \
             select $1, value ->> 'sequence', value ->> 'title', value ->> 'prompt', \
             value ->> 'require_confirmation' from json_each($2) where true \
             on conflict (workflow_id, sequence) do nothing",
            "insert into workflow_steps (workflow_id, sequence, title, prompt, require_confirmation) \
             select $1, t.sequence, t.title, t.prompt, t.require_confirmation from json_to_recordset($2::json) \
             as t (sequence bigint, title text, prompt text, require_confirmation boolean) \
             on conflict (workflow_id, sequence) do nothing",
        )
        .bind(new.id.as_str())
        .bind(steps),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{After, Limit};
    use crate::store::plan;

    #[tokio::test]
    async fn a_page_far_behind_is_found_by_an_index() {
        let page = PageQuery::new(Limit::default(), After::try_from("x".to_owned()).ok());
        let plan = plan(&runs("ada", &page)).await;
        assert!(plan.contains("runs_by_user (user_id=? AND id<?)") && !plan.contains("TEMP"), "{plan}");
    }
}
