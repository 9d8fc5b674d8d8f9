//! An explanation for people: one paragraph a section, in the order in which a request passes them.

use crate::cli::output::{self, Paint, shown};
use crate::proxy::explain::shape::{
    By, Cached, Changes, Client, Coding, Explanation, InFlight, Outcome, RateLimit, Target, Tried, Upstream, Verdict,
};

/// What stands before the lines of a section.
const MARGIN: usize = 10;

pub fn describe(explanation: &Explanation, paint: Paint) -> String {
    let mut page = Page { text: head(explanation, paint), paint };
    let Explanation { target, client, routes, access, in_flight, rate_limits, body, .. } = explanation;
    page.section("target", target.as_ref().map(target_text));
    page.section("client", client.as_ref().map(client_text));
    page.section("route", (!routes.is_empty()).then(|| routes_text(routes, paint)));
    page.section("access", access.as_ref().map(|access| access.why.clone()));
    page.section("limits", limits_text(in_flight, rate_limits));
    page.section(
        "body",
        body.as_ref().map(|body| {
            let announced = body
                .announced
                .map_or("comes in chunks, which are counted".to_owned(), |bytes| format!("{bytes} bytes"));
            let fits = if body.fits { "" } else { ", which is too much" };
            format!("{announced}{fits}; at most {}", body.max)
        }),
    );
    page.section("cache", explanation.cache.as_ref().map(cache_text));
    page.section("coding", explanation.coding.as_ref().map(coding_text));
    page.section("request", explanation.request.as_ref().map(request_text));
    page.section("upstream", explanation.upstream.as_ref().map(upstream_text));
    page.section(
        "response",
        explanation.response.as_ref().and_then(|edits| {
            let set = edits.set.iter().map(|(name, value)| format!("set      {}: {}", shown(name), shown(value)));
            let removed = edits.removed.iter().map(|name| format!("removed  {}", shown(name)));
            let lines: Vec<_> = set.chain(removed).collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        }),
    );
    page.text
}

struct Page {
    text: String,
    paint: Paint,
}

impl Page {
    /// A name in the margin, and lines beside it.
    fn section(&mut self, name: &str, lines: Option<String>) {
        let Some(lines) = lines else { return };
        self.text.push('\n');
        let mut margin = self.paint.bold(&format!("{name:MARGIN$}"));
        for line in lines.lines() {
            self.text.push_str(&format!("{margin}{}\n", line.trim_end()));
            margin = " ".repeat(MARGIN);
        }
    }
}

fn head(explanation: &Explanation, paint: Paint) -> String {
    let Explanation { method, url, listener, scheme, generation, outcome, .. } = explanation;
    let by = generation.map_or_else(
        || "by the file, without a running proxy".to_owned(),
        |generation| format!("by generation {generation} of the running proxy"),
    );
    let verdict = verdict(outcome);
    let verdict = match outcome.by {
        By::Refusal => paint.red(&verdict),
        _ => paint.green(&verdict),
    };
    format!("{} {}\ncoming by {listener} ({scheme}), {by}\n\n{verdict}\n", shown(method), shown(url))
}

/// In one line.
fn verdict(outcome: &Outcome) -> String {
    let Outcome { by, status, reason, location, why } = outcome;
    let mut text = match (by, status) {
        (By::Refusal, Some(status)) => format!("{status}: {}", shown(why)),
        (_, Some(status)) => format!("{status}, {}", shown(why)),
        (_, None) => shown(why),
    };
    if let Some(reason) = reason {
        text.push_str(&format!(" ({reason})"));
    }
    if let Some(location) = location {
        text.push_str(&format!(", to {}", shown(location)));
    }
    text
}

fn target_text(target: &Target) -> String {
    let Target { host, port, path_came, path, query } = target;
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let came = if path == path_came { String::new() } else { format!(", which came as {}", shown(path_came)) };
    let query = query.as_ref().map(|query| format!("\nquery {}", shown(query))).unwrap_or_default();
    format!("host {}{port}\npath {}{came}{query}", shown(host), shown(path))
}

fn client_text(client: &Client) -> String {
    let hop = |hop: &crate::proxy::explain::shape::Hop| {
        let said = hop.said.as_deref().map_or_else(|| hop.address.map(|a| a.to_string()).unwrap_or_default(), shown);
        match (hop.address, hop.trusted) {
            (None, _) => format!("{said} (no address)"),
            (_, true) => format!("{said} (trusted)"),
            (_, false) => format!("{said} (not trusted)"),
        }
    };
    let chain: Vec<_> = client.chain.iter().map(hop).collect();
    format!("{}: {}\n{}", client.address, client.why, chain.join(" <- "))
}

fn routes_text(routes: &[Tried], paint: Paint) -> String {
    let row = |tried: &Tried| {
        let word = match tried.verdict {
            Verdict::Chosen => "chosen",
            Verdict::Outranked => "outranked",
            Verdict::OtherHost => "other host",
            Verdict::OtherPath => "other path",
        };
        let hosts = if tried.hosts.is_empty() { "any".to_owned() } else { tried.hosts.join(",") };
        [word.to_owned(), tried.name.clone(), tried.place.clone(), hosts, tried.path.clone(), tried.why.clone()]
    };
    let table = output::table(["VERDICT", "ROUTE", "PLACE", "HOSTS", "PATH", "WHY"], routes.iter().map(row));
    let line = |line: &str| if line.starts_with("chosen ") { paint.green(line) } else { line.to_owned() };
    table.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn limits_text(in_flight: &[InFlight], rate_limits: &[RateLimit]) -> Option<String> {
    let unknown = || "unknown".to_owned();
    let in_flight = in_flight.iter().map(|limit| {
        let open = limit.open.map_or_else(unknown, |open| open.to_string());
        format!("{}: {open} of {} in flight", limit.limit, limit.max)
    });
    let rate = rate_limits.iter().map(|limit| {
        let burst = limit.burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
        let state = match (&limit.state, limit.exempt) {
            (_, true) => "the client is exempt".to_owned(),
            (None, _) => unknown(),
            (Some(state), _) => {
                let more = if state.more_after_s > 0.0 {
                    format!(", more in {:.1} s", state.more_after_s)
                } else {
                    String::new()
                };
                let refuses = if state.refuses { ": refuses" } else { "" };
                format!("{} of {} left{more}{refuses}", state.remaining, state.capacity)
            }
        };
        let dry_run = if limit.dry_run { " (dry run)" } else { "" };
        let RateLimit { name, key, requests, window_s, .. } = limit;
        format!("{name}{dry_run}, {requests} in {window_s} s{burst} by {key}: {state}")
    });
    let lines: Vec<_> = in_flight.chain(rate).map(|line| shown(&line)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn cache_text(cached: &Cached) -> String {
    let rfc = cached.rfc.as_ref().map(|rfc| format!(" ({rfc})")).unwrap_or_default();
    let mut lines = vec![format!("{}: {}{rfc}", cached.verdict, cached.why)];
    if let Some(status) = &cached.cache_status {
        lines.push(format!("Cache-Status {status}"));
    }
    if let Some(key) = &cached.key {
        let present = key.fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let fields: String = present.map(|(name, value)| format!(", {} = {}", shown(name), shown(value))).collect();
        lines.push(format!("key {}{fields}", shown(&key.url)));
    }
    if let (Some(age), Some(left)) = (cached.age_s, cached.fresh_for_s) {
        lines.push(format!("age {age} s, {}", freshness(left)));
    }
    match cached.line.as_deref() {
        Some("leads") => lines.push("fetched for all who ask meanwhile".to_owned()),
        Some("follows") => lines.push("waits for a fetch that is under way".to_owned()),
        _ => {}
    }
    for variant in cached.variants.iter().flatten() {
        let vary = if variant.vary.is_empty() { "every request".to_owned() } else { variant.vary.join(", ") };
        let fits = if variant.matches { "fits" } else { "is for another request" };
        let bytes = variant.bytes.map_or_else(|| "still coming".to_owned(), |bytes| format!("{bytes} bytes"));
        let (status, age) = (variant.status, variant.age_s);
        let line =
            format!("stored: {status}, {bytes}, age {age} s, {}, by {vary}: {fits}", freshness(variant.fresh_for_s));
        lines.push(shown(&line));
    }
    lines.join("\n")
}

fn freshness(seconds: i64) -> String {
    if seconds < 0 { format!("stale for {} s", -seconds) } else { format!("fresh for {seconds} s") }
}

fn coding_text(coding: &Coding) -> String {
    let what = match (&coding.coding, &coding.not_coded) {
        (Some(coding), _) => coding.clone(),
        (None, why) => format!("none: {}", why.as_deref().unwrap_or("unknown")),
    };
    let needs = coding.needs.as_ref().filter(|_| coding.coding.is_some());
    let needs = needs.map(|needs| {
        format!(", if the response is one of {} and of {} bytes or more", needs.types.join(" "), needs.min_size)
    });
    format!("{what}{} (offered: {})", needs.unwrap_or_default(), coding.offered.join(", "))
}

fn request_text(changes: &Changes) -> String {
    let Changes { target, rewritten, added, changed, removed } = changes;
    let how = if *rewritten { " (rewritten)" } else { "" };
    let mut lines = vec![format!("sent as   {}{how}", shown(target))];
    lines.extend(added.iter().map(|(name, value)| format!("added     {}: {}", shown(name), shown(value))));
    lines.extend(
        changed.iter().map(|one| format!("changed   {}: {} -> {}", shown(&one.name), shown(&one.from), shown(&one.to))),
    );
    lines.extend(removed.iter().map(|name| format!("removed   {}", shown(name))));
    lines.join("\n")
}

fn upstream_text(upstream: &Upstream) -> String {
    let Upstream { name, balance, by_chance, uses_all, breaker, waiting, endpoints } = upstream;
    let mut notes = vec![format!("{name}, by {balance}")];
    if *by_chance {
        notes.push("the order is one of many".to_owned());
    }
    if *uses_all {
        notes.push("all are out, and used all the same".to_owned());
    }
    if let Some(breaker) = breaker {
        let refuses = if breaker.refuses { ", which refuses" } else { "" };
        notes.push(format!("breaker {}{refuses}", breaker.state));
    }
    if let Some(waiting @ 1..) = waiting {
        notes.push(format!("{} waiting", output::count(*waiting, "request")));
    }
    let unknown = || "unknown".to_owned();
    let row = |one: &crate::proxy::explain::shape::Endpoint| {
        let state = one.state.clone().unwrap_or_else(unknown);
        [
            one.place.map_or_else(|| "-".to_owned(), |place| place.to_string()),
            one.address.to_string(),
            if one.full { format!("{state}, full") } else { state },
            one.weight.to_string(),
            one.in_flight.map_or_else(unknown, |count| count.to_string()),
        ]
    };
    let table = match endpoints.is_empty() {
        true => "no endpoint is known".to_owned(),
        false => output::table(["ORDER", "ADDRESS", "STATE", "WEIGHT", "IN FLIGHT"], endpoints.iter().map(row)),
    };
    format!("{}\n{table}", shown(&notes.join("; ")))
}
