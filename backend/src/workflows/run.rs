//! Runs: how far somebody is in a workflow. Each step is done in its turn and once, whatever is repeated.

use serde::Serialize;
use utoipa::ToSchema;

use super::library::Step;
use super::{WorkflowError, Workflows, storage};
use crate::api::{Caller, Page, PageQuery};
use crate::clock::{now_ms, rfc3339};
use crate::secret::new_id;
use crate::store::{Repeat, Row, StoreError, Transaction};

/// A run, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Run {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    workflow: String,
    #[schema(example = "Deploy a service")]
    name: String,
    steps: i64,
    /// How many of them.
    done: i64,
    /// Rounded down.
    #[schema(minimum = 0, maximum = 100)]
    percent: i64,
    #[schema(format = "date-time")]
    created_at: String,
    /// Null until it is completed.
    #[schema(format = "date-time")]
    completed_at: Option<String>,
}

/// What is to be done next.
#[derive(Debug, Serialize, ToSchema)]
pub struct Next {
    run: String,
    done: i64,
    /// Null if all are done: then the run may be completed.
    step: Option<Step>,
    completed: bool,
}

impl Run {
    /// Which state of the run this is. It differs from that of every other run.
    pub fn state(&self) -> String {
        state(&self.id, self.done, self.completed_at.is_some())
    }
}

impl Next {
    pub fn state(&self) -> String {
        state(&self.run, self.done, self.completed)
    }
}

fn state(run: &str, done: i64, is_completed: bool) -> String {
    format!("{run}.{done}.{}", u8::from(is_completed))
}

impl TryFrom<&Row> for Run {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        let (done, steps): (i64, i64) = (row.get("done")?, row.get("steps")?);
        let completed_ms: Option<i64> = row.get("completed_ms")?;
        Ok(Self {
            id: row.get("id")?,
            workflow: row.get("workflow_id")?,
            name: row.get("name")?,
            percent: (100 * done).checked_div(steps).unwrap_or(100),
            steps,
            done,
            created_at: rfc3339(row.get("created_ms")?),
            completed_at: completed_ms.map(rfc3339),
        })
    }
}

/// What is to be done about a step.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Now,
    /// It was done before.
    Done,
}

/// Whether it is the turn of a step, where so many are done.
fn turn(sequence: i64, done: i64, is_confirmed: bool) -> Result<Turn, WorkflowError> {
    if sequence <= done {
        Ok(Turn::Done)
    } else if sequence > done + 1 {
        Err(WorkflowError::NotYet { next: done + 1 })
    } else if !is_confirmed {
        Err(WorkflowError::Unconfirmed)
    } else {
        Ok(Turn::Now)
    }
}

/// What becomes of a run.
enum Change<'c> {
    Start { workflow: &'c str },
    Step { sequence: i64, is_confirmed: bool },
    Complete,
}

impl Workflows {
    pub async fn start(&self, caller: &Caller, workflow: &str) -> Result<Run, WorkflowError> {
        self.make(caller, &new_id(), &Change::Start { workflow }).await
    }

    /// Does a step; `is_confirmed` says that who does it means it.
    pub async fn confirm(
        &self,
        caller: &Caller,
        run: &str,
        sequence: i64,
        is_confirmed: bool,
    ) -> Result<Run, WorkflowError> {
        self.make(caller, run, &Change::Step { sequence, is_confirmed }).await
    }

    pub async fn complete(&self, caller: &Caller, run: &str) -> Result<Run, WorkflowError> {
        self.make(caller, run, &Change::Complete).await
    }

    /// Changes a run. A second time changes nothing more, and gives the same.
    async fn make(&self, caller: &Caller, run: &str, change: &Change<'_>) -> Result<Run, WorkflowError> {
        let now_ms = now_ms();
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = make(&mut transaction, (&caller.user, run), change, now_ms).await;
            if let Some(run) = attempts.end(transaction, outcome).await? {
                return Ok(run);
            }
        }
    }

    /// The runs of the caller, the newest first.
    pub async fn runs(&self, caller: &Caller, query: &PageQuery) -> Result<Page<Run>, WorkflowError> {
        let rows = self.store.fetch(&storage::runs(&caller.user, query)).await?;
        let runs = rows.iter().map(Run::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(runs, query, |run| run.id.clone()))
    }

    pub async fn progress(&self, caller: &Caller, run: &str) -> Result<Run, WorkflowError> {
        let row = self.store.fetch_optional(&storage::run(&caller.user, run)).await?.ok_or(WorkflowError::Gone)?;
        Ok(Run::try_from(&row)?)
    }

    pub async fn next(&self, caller: &Caller, run: &str) -> Result<Next, WorkflowError> {
        let row = self.store.fetch_optional(&storage::next(&caller.user, run)).await?.ok_or(WorkflowError::Gone)?;
        let sequence: Option<i64> = row.get("sequence")?;
        let completed_ms: Option<i64> = row.get("completed_ms")?;
        Ok(Next {
            run: row.get("id")?,
            done: row.get("done")?,
            step: sequence.map(|_there| Step::try_from(&row)).transpose()?,
            completed: completed_ms.is_some(),
        })
    }
}

async fn make(
    transaction: &mut Transaction,
    (user, run): (&str, &str),
    change: &Change<'_>,
    now_ms: i64,
) -> Result<Run, WorkflowError> {
    match *change {
        Change::Start { workflow } => {
            transaction.execute(&storage::add_run(run, user, workflow, now_ms)).await?;
        }
        Change::Step { sequence, is_confirmed } => {
            let step = storage::lock_step(user, run, sequence);
            let row = transaction.fetch_optional(&step).await?.ok_or(WorkflowError::Gone)?;
            let needs_none = !row.get::<bool>("require_confirmation")?;
            if turn(sequence, row.get("done")?, is_confirmed || needs_none)? == Turn::Now {
                transaction.execute_all(&storage::do_step(run, sequence, now_ms)).await?;
            }
        }
        Change::Complete => {
            let row = transaction.fetch_optional(&storage::lock_run(user, run)).await?.ok_or(WorkflowError::Gone)?;
            let left = row.get::<i64>("steps")? - row.get::<i64>("done")?;
            if left > 0 {
                return Err(WorkflowError::StepsLeft { left });
            }
            transaction.execute(&storage::complete_run(run, now_ms)).await?;
        }
    }
    // A run is not there if its workflow is not.
    let row = transaction.fetch_optional(&storage::run(user, run)).await?.ok_or(WorkflowError::Gone)?;
    Ok(Run::try_from(&row)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_in_its_turn_and_once() {
        let check = |sequence: i64, done: i64, is_confirmed: bool, expected: Result<Turn, &str>| {
            let turn = turn(sequence, done, is_confirmed).map_err(|error| error.to_string());
            assert_eq!(turn, expected.map_err(str::to_owned), "{sequence} after {done}");
        };
        check(1, 0, true, Ok(Turn::Now));
        check(3, 2, true, Ok(Turn::Now));
        check(2, 2, true, Ok(Turn::Done));
        check(1, 2, false, Ok(Turn::Done));
        check(3, 2, false, Err("the step has to be confirmed"));
        check(4, 2, true, Err("the turn of the step has not come; the next is 3"));
        check(4, 2, false, Err("the turn of the step has not come; the next is 3"));
    }
}
