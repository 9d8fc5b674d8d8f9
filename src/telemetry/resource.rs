//! As whom this process speaks to collectors.

use std::sync::LazyLock;

use crate::config::Telemetry;

/// The attribute by which collectors tell processes of one service apart.
const INSTANCE: &str = "service.instance.id";

/// One for the life of the process, so that a reload goes on with the same series: a UUID by chance (version 4).
static ID: LazyLock<String> = LazyLock::new(|| uuid(fastrand::u128(..)));

/// What the configuration says, and which of all edges this is, unless it says that as well.
pub fn resource(telemetry: &Telemetry) -> Vec<(String, String)> {
    let mut resource = telemetry.settings.resource.clone();
    if resource.iter().all(|(name, _)| name != INSTANCE) {
        resource.push((INSTANCE.to_owned(), ID.clone()));
    }
    resource
}

fn uuid(random: u128) -> String {
    let id = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!("{id:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| text.get(part).unwrap_or_default().to_owned());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
