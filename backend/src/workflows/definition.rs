//! What a workflow has to be, and every way in which a proposed one is not.

use std::fmt::Display;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

const NAME_LETTERS_MAX: usize = 120;
const DESCRIPTION_LETTERS_MAX: usize = 2000;
const PROMPT_LETTERS_MAX: usize = 4000;
const CATEGORY_LETTERS_MAX: usize = 40;
const STEPS_MAX: usize = 100;
/// More help nobody.
const FAULTS_MAX: usize = 1000;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkflowDefinition)]
pub struct Definition {
    #[schema(example = "Deploy a service", max_length = 120)]
    pub name: String,
    #[schema(max_length = 2000)]
    pub description: String,
    /// Small letters, digits and `-`.
    #[schema(example = "operations", max_length = 40)]
    pub category: String,
    #[schema(min_items = 1, max_items = 100)]
    pub steps: Vec<StepDefinition>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct StepDefinition {
    /// Its place, from 1 on.
    pub sequence: usize,
    #[schema(max_length = 120)]
    pub title: String,
    /// What is to be done.
    #[schema(max_length = 4000)]
    pub prompt: String,
    pub require_confirmation: bool,
}

/// What is wrong with a definition, and where.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = WorkflowFault)]
pub struct Fault {
    #[schema(example = "steps[2].title")]
    field: String,
    #[schema(example = "is missing")]
    detail: String,
}

/// All faults of a proposed definition, at most a thousand; none if it is good.
pub fn faults(definition: &Map<String, Value>) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    let whole = Fields { path: "", fields: definition };
    faults.unknown(&whole, &["name", "description", "category", "steps"]);
    faults.text(&whole, "name", 1..=NAME_LETTERS_MAX);
    faults.text(&whole, "description", 0..=DESCRIPTION_LETTERS_MAX);
    match faults.find(&whole, "category") {
        Some(Value::String(text)) if is_category(text) => {}
        Some(_) => faults.add(whole.at("category"), "must be 1 to 40 small letters, digits and `-`"),
        None => {}
    }
    match faults.find(&whole, "steps") {
        Some(Value::Array(steps)) => faults.steps(steps),
        Some(_) => faults.add(whole.at("steps"), "must be a list"),
        None => {}
    }
    let Faults(mut faults) = faults;
    faults.truncate(FAULTS_MAX);
    faults
}

pub fn is_category(text: &str) -> bool {
    let is_inside = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty() && text.len() <= CATEGORY_LETTERS_MAX && text.chars().all(is_inside)
}

/// An object within the definition.
struct Fields<'d> {
    /// Where it is, with a dot behind it; nothing for the definition itself.
    path: &'d str,
    fields: &'d Map<String, Value>,
}

impl Fields<'_> {
    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: String, detail: impl Display) {
        self.0.push(Fault { field, detail: detail.to_string() });
    }

    fn unknown(&mut self, object: &Fields<'_>, known: &[&str]) {
        for name in object.fields.keys().filter(|name| !known.contains(&name.as_str())) {
            self.add(object.at(name), "is not known here");
        }
    }

    /// The value of a field that must be there.
    fn find<'d>(&mut self, object: &Fields<'d>, name: &str) -> Option<&'d Value> {
        let value = object.fields.get(name);
        if value.is_none() {
            self.add(object.at(name), "is missing");
        }
        value
    }

    fn text(&mut self, object: &Fields<'_>, name: &str, letters: std::ops::RangeInclusive<usize>) {
        let Some(value) = self.find(object, name) else { return };
        let is_right = value.as_str().is_some_and(|text| letters.contains(&text.trim().chars().count()));
        if !is_right {
            let (min, max) = letters.into_inner();
            self.add(object.at(name), format_args!("must be a text of {min} to {max} letters"));
        }
    }

    fn steps(&mut self, steps: &[Value]) {
        if steps.is_empty() || steps.len() > STEPS_MAX {
            self.add("steps".to_owned(), format_args!("must be 1 to {STEPS_MAX} steps"));
        }
        for (index, step) in steps.iter().take(STEPS_MAX).enumerate() {
            match step {
                Value::Object(fields) => self.step(&Fields { path: &format!("steps[{index}]."), fields }, index + 1),
                _ => self.add(format!("steps[{index}]"), "must be an object"),
            }
        }
    }

    fn step(&mut self, step: &Fields<'_>, place: usize) {
        self.unknown(step, &["sequence", "title", "prompt", "require_confirmation"]);
        let sequence = self.find(step, "sequence");
        if sequence.is_some_and(|sequence| sequence.as_u64() != u64::try_from(place).ok()) {
            self.add(step.at("sequence"), format_args!("must be {place}, its place in the list"));
        }
        self.text(step, "title", 1..=NAME_LETTERS_MAX);
        self.text(step, "prompt", 1..=PROMPT_LETTERS_MAX);
        if self.find(step, "require_confirmation").is_some_and(|flag| !flag.is_boolean()) {
            self.add(step.at("require_confirmation"), "must be true or false");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "name": "Deploy", "description": "", "category": "operations-2",
            "steps": [
                {"sequence": 1, "title": "Build", "prompt": "Build it.", "require_confirmation": false},
                {"sequence": 2, "title": "Switch", "prompt": "Switch over.", "require_confirmation": true},
            ],
        })
    }

    fn found(definition: &Value) -> Vec<(String, String)> {
        let faults = faults(definition.as_object().unwrap());
        faults.into_iter().map(|fault| (fault.field, fault.detail)).collect()
    }

    #[test]
    fn each_fault_is_named_by_its_field() {
        let check = |pointer: &str, value: Value, field: &str, detail: &str| {
            let mut definition = good();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            match definition.pointer_mut(parent).unwrap() {
                Value::Object(fields) if value == "(gone)" => drop(fields.remove(name)),
                Value::Object(fields) => drop(fields.insert(name.to_owned(), value)),
                Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
                _ => panic!("{pointer}"),
            }
            assert_eq!(found(&definition), [(field.to_owned(), detail.to_owned())], "{pointer}");
        };
        assert_eq!(found(&good()), []);
        check("/name", json!("(gone)"), "name", "is missing");
        check("/name", json!(" "), "name", "must be a text of 1 to 120 letters");
        check("/name", json!("n".repeat(121)), "name", "must be a text of 1 to 120 letters");
        check("/description", json!(7), "description", "must be a text of 0 to 2000 letters");
        check("/category", json!("Operations"), "category", "must be 1 to 40 small letters, digits and `-`");
        check("/category", json!(""), "category", "must be 1 to 40 small letters, digits and `-`");
        check("/owner", json!("ada"), "owner", "is not known here");
        check("/steps", json!([]), "steps", "must be 1 to 100 steps");
        check("/steps", json!({}), "steps", "must be a list");
        check("/steps/1", json!("Switch"), "steps[1]", "must be an object");
        check("/steps/1/sequence", json!(1), "steps[1].sequence", "must be 2, its place in the list");
        check("/steps/0/sequence", json!("1"), "steps[0].sequence", "must be 1, its place in the list");
        check("/steps/1/title", json!("(gone)"), "steps[1].title", "is missing");
        check("/steps/1/prompt", json!(null), "steps[1].prompt", "must be a text of 1 to 4000 letters");
        check("/steps/0/require_confirmation", json!("no"), "steps[0].require_confirmation", "must be true or false");
        check("/steps/0/when", json!(1), "steps[0].when", "is not known here");
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let fields: Vec<_> =
            found(&json!({"nam": "x", "steps": [{}, 7]})).into_iter().map(|(field, _)| field).collect();
        let expected = [
            "nam",
            "name",
            "description",
            "category",
            "steps[0].sequence",
            "steps[0].title",
            "steps[0].prompt",
            "steps[0].require_confirmation",
            "steps[1]",
        ];
        assert_eq!(fields, expected);
        let many = json!({"steps": vec![json!(0); 101]});
        assert_eq!(found(&many).len(), 3 + 1 + 100);
        let vast: Map<_, _> = (0..2000).map(|number| (format!("x{number}"), json!(0))).collect();
        assert_eq!(faults(&vast).len(), 1000);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let name = || prop_oneof!["[a-z]{0,4}", Just("steps".to_owned()), Just("title".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,9}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(name(), inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_proposed_is_judged(
            fields in prop::collection::btree_map(prop_oneof!["[a-z]{0,4}", Just("steps".to_owned())], any_json(), 0..6),
        ) {
            // None of these has a name, so none is good.
            let fields: Map<_, _> = fields.into_iter().filter(|(name, _)| name != "name").collect();
            prop_assert!(!faults(&fields).is_empty());
        }
    }
}
