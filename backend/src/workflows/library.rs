//! The workflows that there are: listed by category, searched, shown with their steps. They are the same for everybody.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{WorkflowError, Workflows, definition, storage};
use crate::api::{After, Limit, Page, PageQuery, SearchQuery};
use crate::store::{Row, StoreError};

/// A workflow as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowSummary {
    #[schema(example = "00000000-0000-7000-8000-000000000001")]
    pub id: String,
    #[schema(example = "Deploy a service")]
    name: String,
    #[schema(example = "operations")]
    category: String,
    /// How many it has.
    steps: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Workflow {
    id: String,
    name: String,
    category: String,
    description: String,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkflowStep)]
pub struct Step {
    /// Its place, from 1 on.
    sequence: i64,
    title: String,
    /// What is to be done.
    prompt: String,
    /// Whether it is done only if who does it says that he means it.
    require_confirmation: bool,
}

/// Which workflows are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkflowQuery {
    /// Those of this category alone.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "operations")]
    category: Option<Category>,
    /// How many at most: 1 to 100, and 20 if it is not said.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 100)]
    limit: Limit,
    /// The `next` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    after: Option<After>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Category(String);

impl TryFrom<String> for Category {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if definition::is_category(&text) { Ok(Self(text)) } else { Err("must be small letters, digits and `-`") }
    }
}

impl TryFrom<&Row> for WorkflowSummary {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            category: row.get("category")?,
            steps: row.get("steps")?,
        })
    }
}

impl TryFrom<&Row> for Step {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            sequence: row.get("sequence")?,
            title: row.get("title")?,
            prompt: row.get("prompt")?,
            require_confirmation: row.get("require_confirmation")?,
        })
    }
}

// No route changes a workflow, so what a replica of the database has may be shown.
impl Workflows {
    pub async fn list(&self, query: WorkflowQuery) -> Result<Page<WorkflowSummary>, WorkflowError> {
        let page = PageQuery::new(query.limit, query.after);
        let category = query.category.as_ref().map(|Category(name)| name.as_str());
        let rows = self.store.fetch_behind(&storage::workflows(category, &page)).await?;
        let workflows = rows.iter().map(WorkflowSummary::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(workflows, &page, |workflow| workflow.id.clone()))
    }

    /// The workflows that fit, the best first.
    pub async fn search(&self, search: &SearchQuery) -> Result<Page<WorkflowSummary>, WorkflowError> {
        let query = search.page();
        let rows = self.store.fetch_behind(&storage::search(&search.q, &query)).await?;
        let workflows = rows.iter().map(WorkflowSummary::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(workflows, &query, |workflow| workflow.id.clone()))
    }

    pub async fn get(&self, id: &str) -> Result<Workflow, WorkflowError> {
        let rows = self.store.fetch_behind(&storage::workflow(id)).await?;
        let row = rows.first().ok_or(WorkflowError::Gone)?;
        let steps = self.store.fetch_behind(&storage::steps(id)).await?;
        Ok(Workflow {
            id: row.get("id")?,
            name: row.get("name")?,
            category: row.get("category")?,
            description: row.get("description")?,
            steps: steps.iter().map(Step::try_from).collect::<Result<_, _>>()?,
        })
    }
}
