//! Made-up workflows, the same ones at every run.

use super::definition::{Definition, StepDefinition};
use super::storage::{self, NewWorkflow};
use crate::progress::Progress;
use crate::store::{Query, Store, StoreError};

const BATCH: u32 = 500;
/// 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;
const CATEGORIES: [&str; 6] = ["authentication", "database", "design", "operations", "security", "testing"];
const DEED: [&str; 8] = ["Audit", "Build", "Document", "Extend", "Migrate", "Review", "Simplify", "Upgrade"];
const SUBJECT: [&str; 5] = ["the cache", "the gateway", "the login", "the schema", "the search"];
const STEP: [&str; 7] = ["Read", "Plan", "Back up", "Change", "Test", "Release", "Watch"];

/// Adds workflows 0 to `count`; those that are there stay as they are.
pub async fn seed(store: &Store, count: u32) -> Result<(), StoreError> {
    let mut progress = Progress::new("workflows", count);
    for begin in (0..count).step_by(BATCH as usize) {
        let end = count.min(begin + BATCH);
        let statements: Vec<_> = (begin..end).flat_map(statements).collect();
        store.change(&statements).await?;
        progress.at(end);
    }
    Ok(())
}

fn statements(number: u32) -> [Query; 2] {
    let definition = definition(number);
    storage::add_workflow(&NewWorkflow {
        // In the form of version 7, so that it sorts before those that are made later.
        id: format!("00000000-0000-7000-8000-{number:012x}"),
        name: &definition.name,
        description: &definition.description,
        category: &definition.category,
        created_ms: BEGIN_MS + i64::from(number) * 1000,
        steps: &definition.steps,
    })
}

fn definition(number: u32) -> Definition {
    let (deed, subject) = (pick(&DEED, number), pick(&SUBJECT, number / 8));
    let steps = 3 + number as usize % 5;
    let step = |(place, title): (usize, &&str)| StepDefinition {
        sequence: place,
        title: (*title).to_owned(),
        prompt: format!("{title} what concerns {subject}, and note what you find."),
        // What cannot be undone needs a second look.
        require_confirmation: matches!(*title, "Change" | "Release"),
    };
    Definition {
        name: format!("{deed} {subject} {number}"),
        description: format!("How to {} {subject} in {steps} steps.", deed.to_lowercase()),
        category: pick(&CATEGORIES, number).to_owned(),
        steps: (1..).zip(&STEP).take(steps).map(step).collect(),
    }
}

fn pick<'n>(names: &[&'n str], number: u32) -> &'n str {
    names.get(number as usize % names.len().max(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflows::definition::faults;

    #[test]
    fn made_up_workflows_are_what_a_workflow_has_to_be() {
        let mut names = std::collections::BTreeSet::new();
        for number in 0..5000 {
            let definition = definition(number);
            let value = serde_json::to_value(&definition).unwrap();
            assert_eq!(faults(value.as_object().unwrap()), []);
            assert!(names.insert(definition.name));
        }
    }
}
