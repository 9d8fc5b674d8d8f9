//! Whether the answer would be coded, by the plan that the path itself makes.

use http::header::LOCATION;
use http::{Response, StatusCode};

use super::outcome;
use super::shape::{By, Coding, Needs, Outcome};
use crate::body::Body;
use crate::cache::Stored;
use crate::compress::negotiate::Plan;
use crate::compress::{Outcome as Coded, Recoding};
use crate::config::Route;
use crate::header::edit;
use crate::proxy::cached;

/// Of an answer that the edge itself gives.
pub fn of_answer(recoding: &Recoding<'_>, route: &Route, answer: &Response<Body>) -> Coding {
    let mut edited = Response::new(Body::empty());
    *edited.status_mut() = answer.status();
    edited.headers_mut().clone_from(answer.headers());
    edit(edited.headers_mut(), &route.response_fields);
    let plan = recoding.plan(edited.status(), edited.headers(), http_body::Body::size_hint(answer.body()).exact());
    planned(recoding, plan)
}

/// Of one that was made of a stored response.
pub fn of_stored(recoding: &Recoding<'_>, route: &Route, mut answer: Response<Body>, stored: &Stored) -> Coding {
    edit(answer.headers_mut(), &route.response_fields);
    let plan = match (cached::plan(recoding, &mut answer, stored), answer.status()) {
        (plan @ Plan::Code(_), StatusCode::OK) => plan,
        _ => recoding.plan_of(&answer),
    };
    planned(recoding, plan)
}

/// Of one that an endpoint is yet to give.
pub fn of_unknown(recoding: &Recoding<'_>) -> Coding {
    let needs = Needs {
        types: recoding.policy().types.iter().map(ToString::to_string).collect(),
        min_size: recoding.policy().min_size,
    };
    let outcome = match recoding.coding() {
        Ok(coding) => Coded::Coded(coding),
        Err(why) => Coded::Left(why),
    };
    Coding { needs: Some(needs), ..told(recoding, outcome) }
}

fn planned(recoding: &Recoding<'_>, plan: Plan) -> Coding {
    told(
        recoding,
        match plan {
            Plan::Code(coding) => Coded::Coded(coding),
            Plan::Decode => Coded::Decoded,
            Plan::Leave { why, .. } => Coded::Left(why),
        },
    )
}

fn told(recoding: &Recoding<'_>, outcome: Coded) -> Coding {
    let code = outcome.code().to_owned();
    let (coding, not_coded) = match outcome {
        Coded::Coded(_) | Coded::Decoded => (Some(code), None),
        Coded::Left(_) => (None, Some(code)),
    };
    let offered = recoding.policy().codings.iter().map(|coding| coding.word().to_owned()).collect();
    Coding { offered, coding, not_coded, needs: None }
}

pub fn redirected(response: &Response<Body>, why: &str) -> Outcome {
    let location = response.headers().get(LOCATION).map(super::changes::text);
    Outcome { location, ..outcome(By::Redirect, Some(response.status()), why) }
}
