//! What was probably meant: the known word nearest to one that is not known.

/// The nearest of `known`, if one is near enough to be worth saying.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(word);
    known
        .into_iter()
        .filter_map(|candidate| distance(&plain, candidate).map(|distance| (distance, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?` for the nearest, as a line of help.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|candidate| format!("did you mean `{candidate}`?"))
}

fn plain(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// Edits between the two, or nothing if they have too little in common. A word that was cut short or
/// made longer (`cert`, `addresses`) is as near as one wrong letter or two.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    let candidate = plain(candidate);
    let edits = strsim::damerau_levenshtein(word, &candidate);
    let allowed = (word.chars().count().max(candidate.chars().count()) / 3).max(1);
    let shared = word.len().min(candidate.len()) >= 3 && (candidate.starts_with(word) || word.starts_with(&candidate));
    match (edits <= allowed, shared) {
        (true, true) => Some(edits.min(2)),
        (true, false) => Some(edits),
        (false, true) => Some(2),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_or_none() {
        let known = ["address", "tls", "protocols", "https_redirect", "certificate", "drain_timeout"];
        let check = |word, expected: Option<&str>| assert_eq!(nearest(word, known), expected, "{word}");
        check("adress", Some("address"));
        check("addr", Some("address"));
        check("protocol", Some("protocols"));
        check("cert", Some("certificate"));
        check("drain-timeout", Some("drain_timeout"));
        check("TLS", Some("tls"));
        check("tsl", Some("tls"));
        check("https-redirects", Some("https_redirect"));
        check("colour", None);
        check("x", None);
    }
}
