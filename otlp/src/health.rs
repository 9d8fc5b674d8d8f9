//! What a collector said of a message that it took, and when that is worth a word: at a change, and not for each message.
//! Pure.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use crate::client::ExportError;

/// So much is said of what a collector says.
const SHOWN_CHARS_MAX: usize = 300;

/// A message that the collector has taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Spans, or points of metrics, that it threw away.
    pub rejected: usize,
    /// What is not as it should be.
    pub fault: Option<String>,
}

impl Taken {
    /// By its answer. That to metrics has the same fields as that to spans.
    pub fn read(answer: Bytes) -> Self {
        let partial = match ExportTraceServiceResponse::decode(answer) {
            Ok(answer) => answer.partial_success.unwrap_or_default(),
            Err(error) => return Self::unread(error),
        };
        let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0);
        let said = shown(&partial.error_message);
        let fault = match (rejected, said.is_empty()) {
            (0, true) => None,
            (0, false) => Some(format!("the collector says: {said}")),
            (_, true) => Some(format!("{rejected} were rejected")),
            (_, false) => Some(format!("{rejected} were rejected: {said}")),
        };
        Self { rejected, fault }
    }

    /// Its status says that it took the message, and the rest says nothing.
    pub fn unread(why: impl ToString) -> Self {
        Self { rejected: 0, fault: Some(format!("the collector's answer cannot be read: {}", shown(&why.to_string()))) }
    }
}

/// In one line, which is not long.
fn shown(text: &str) -> String {
    text.trim().chars().take(SHOWN_CHARS_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What is told of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Failing(String),
    /// It takes messages, and not all of what is in them, or finds something odd.
    Impaired(String),
    Recovered,
}

/// Knows what was told last.
#[derive(Debug, Default)]
pub struct Watch(Standing);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Well,
    Impaired,
    Failing,
}

impl Watch {
    /// What is to be told of a message, if that is news.
    pub fn look(&mut self, sent: &Result<Taken, ExportError>) -> Option<Health> {
        let (standing, health) = match sent {
            Err(error) => (Standing::Failing, Health::Failing(error.to_string())),
            Ok(Taken { fault: Some(fault), .. }) => (Standing::Impaired, Health::Impaired(fault.clone())),
            Ok(_) => (Standing::Well, Health::Recovered),
        };
        let before = std::mem::replace(&mut self.0, standing);
        (before != standing).then_some(health)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    #[test]
    fn what_an_answer_says() {
        let check = |rejected_spans, said: &str, expected: usize, fault: Option<&str>| {
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: said.to_owned() };
            let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
            let fault = fault.map(str::to_owned);
            assert_eq!(Taken::read(answer.into()), Taken { rejected: expected, fault }, "{rejected_spans} {said:?}");
        };
        check(0, "", 0, None);
        check(3, "", 3, Some("3 were rejected"));
        check(3, " too\nold ", 3, Some("3 were rejected: too old"));
        check(0, "use the newer field", 0, Some("the collector says: use the newer field"));
        check(-1, "", 0, None);
        check(1, &"é".repeat(1000), 1, Some(&format!("1 were rejected: {}", "é".repeat(300))));
        assert_eq!(Taken::read(Bytes::new()), Taken::default());
        let odd = Taken::read(Bytes::from_static(b"<html>")).fault.unwrap();
        assert!(odd.starts_with("the collector's answer cannot be read: "), "{odd}");
    }

    #[test]
    fn a_change_is_told_and_nothing_else() {
        let mut watch = Watch::default();
        let failed = || Err(ExportError::Ended);
        let in_part = || Ok(Taken { rejected: 1, fault: Some("1 were rejected".to_owned()) });
        for (sent, told) in [
            (Ok(Taken::default()), None),
            (in_part(), Some(Health::Impaired("1 were rejected".to_owned()))),
            (in_part(), None),
            (failed(), Some(Health::Failing("the runtime has ended".to_owned()))),
            (failed(), None),
            (in_part(), Some(Health::Impaired("1 were rejected".to_owned()))),
            (Ok(Taken::default()), Some(Health::Recovered)),
            (Ok(Taken::default()), None),
        ] {
            assert_eq!(watch.look(&sent), told, "{sent:?}");
        }
    }
}
