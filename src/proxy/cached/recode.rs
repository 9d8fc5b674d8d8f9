//! The content coding of a response that is kept: its content is coded once, and the coded one sent from then on.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{Response, StatusCode};

use crate::body::Body;
use crate::cache::{Coded, Stored};
use crate::compress::negotiate::Plan;
use crate::compress::{self, Outcome, Recoding, RecodingError, WHOLE_BYTES_MAX};

/// Codes the answer that was made of a stored response, if its client wants that.
pub async fn recode(
    recoding: &Recoding<'_>,
    response: Response<Body>,
    stored: &Arc<Stored>,
    said: &mut Option<Outcome>,
) -> Result<Response<Body>, RecodingError> {
    let length = stored.content.length();
    let mut response = response;
    let plan = plan(recoding, &mut response, stored);
    let (Plan::Code(coding), StatusCode::OK) = (plan, response.status()) else {
        return recoding.apply(response, said).await;
    };
    let level = recoding.level(coding);
    if let Some(coded) = stored.coded(coding) {
        return Ok(replace(response, coded, said));
    }
    // One request at a time has it coded; those beside it, and those of something large, are sent it as it is coded.
    if let Some((whole, claim)) = Stored::claim_coding(stored, coding) {
        if length.is_some_and(|length| length <= WHOLE_BYTES_MAX) {
            match compress::code_aside(whole, coding, level).await {
                Ok(bytes) => return Ok(replace(response, claim.keep(bytes), said)),
                Err(error) => tracing::debug!("a stored response could not be coded: {error}"),
            }
            // The plain content is at hand, and good.
            return Ok(response);
        }
        tokio::task::spawn_local(async move {
            match compress::code_aside(whole, coding, level).await {
                Ok(bytes) => drop(claim.keep(bytes)),
                Err(error) => tracing::debug!("a stored response could not be coded: {error}"),
            }
        });
    }
    recoding.apply(response, said).await
}

/// What is to be done with the answer, if the content is at hand. A part that has to be decoded becomes the whole.
pub fn plan(recoding: &Recoding<'_>, response: &mut Response<Body>, stored: &Stored) -> Plan {
    let length = stored.content.length();
    if response.status() == StatusCode::PARTIAL_CONTENT
        && recoding.plan(stored.status, &stored.fields, length) == Plan::Decode
    {
        make_whole(response, stored);
    }
    recoding.plan(response.status(), response.headers(), length)
}

/// A part of the coded bytes is none of what this client is sent, which is decoded.
fn make_whole(response: &mut Response<Body>, stored: &Stored) {
    *response.status_mut() = stored.status;
    response.headers_mut().remove(CONTENT_RANGE);
    for name in [CONTENT_TYPE, CONTENT_LENGTH] {
        response.headers_mut().remove(&name);
        if let Some(value) = stored.fields.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    *response.body_mut() = stored.content.body();
}

fn replace(mut response: Response<Body>, coded: Coded, said: &mut Option<Outcome>) -> Response<Body> {
    let Coded { coding, bytes } = coded;
    compress::head::code(response.headers_mut(), coding);
    response.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
    *response.body_mut() = Body::whole(bytes);
    *said = Some(Outcome::Coded(coding));
    response
}
