//! The baseline report of one run: which figures it has, in which order, and what is made of them.

use crate::document::{Block, Cell, Document};
use crate::exposition::quantile;
use crate::memory;
use crate::plot::{self, Line, short};
use crate::run::{Machine, Run};
use crate::summary::Metric;

const QUANTILES: [&str; 6] = ["50", "75", "90", "95", "99", "99.9"];
/// Requests a second that the documents plan for (002).
const PROJECTED: [u32; 4] = [5_000, 10_000, 15_000, 25_000];
/// Above this share of a core, a process is close to its limit.
const BUSY: f64 = 0.7;
const GENERATOR: &str = "k6";

pub fn report(run: &Run) -> Document {
    let mut blocks = heading(run);
    for part in [times, at_the_edge, statuses, stages, endpoints, targets, cache, resources, capacity] {
        blocks.extend(part(run));
    }
    Document { title: format!("Load test: {}, {}", run.about.kind, date(&run.about.begin)), blocks }
}

fn date(begin: &str) -> &str {
    begin.split('T').next().unwrap_or(begin)
}

fn heading(run: &Run) -> Vec<Block> {
    let about = &run.about;
    let targets = run.summary.targets();
    let missed = targets.iter().filter(|target| !target.is_met).count();
    let verdict = match missed {
        0 => format!("All {} targets are met.", targets.len()),
        _ => format!("{missed} of {} targets are missed.", targets.len()),
    };
    let requests = run.requests();
    let rate = requests / about.seconds.max(f64::MIN_POSITIVE);
    let failed = 100.0 * run.summary.failed(None);
    let Machine { cpu, cores, kernel } = &about.machine;
    let mut facts = vec![
        format!("{requests:.0} requests in {:.0} s, {rate:.0} a second; {failed:.3} % failed", about.seconds),
        format!("users {} times those of the type, lengths {} times", about.scale, about.time),
        format!("{} replicas on {}, commit {}, {}", about.replicas, about.stores, about.commit, about.k6),
        format!("{cpu}, {cores} cores, Linux {kernel}; load, edge, replicas and database share them"),
    ];
    if let Some(others) = about.cpu_s.get("others") {
        let busy = others / about.seconds.max(f64::MIN_POSITIVE);
        facts.push(format!("meanwhile, other work kept {busy:.2} cores busy"));
    }
    vec![Block::Text(verdict), Block::List(facts)]
}

fn times(run: &Run) -> Vec<Block> {
    let row = |name: &str, metric: &Metric| {
        let mut row = vec![Cell::from(name)];
        row.extend(QUANTILES.iter().map(|quantile| ms(metric.quantile(quantile))));
        row.push(ms(metric.value("max")));
        row
    };
    let named = [
        ("all", "http_req_duration"),
        ("steady", "http_req_duration{scenario:steady}"),
        ("burst", "http_req_duration{scenario:burst}"),
    ];
    let found = named.iter().filter_map(|(name, metric)| Some((name, run.summary.metric(metric)?)));
    let rows = found.filter(|(_, metric)| metric.count() > 0.0).map(|(name, metric)| row(name, metric)).collect();
    let head = vec!["requests", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"];
    vec![
        Block::Heading("Response times".to_owned()),
        Block::Text("In milliseconds, as the generator saw them.".to_owned()),
        Block::Table { head, rows },
    ]
}

/// What the edge says of the same requests; the rest is the generator's, which has many users on few cores.
fn at_the_edge(run: &Run) -> Vec<Block> {
    let routes = run.edge_times();
    let counted = routes.iter().filter_map(|(route, buckets)| Some((route, buckets, buckets.last()?.1)));
    let rows = counted.filter(|(_, _, count)| *count > 0.0).map(|(route, buckets, count)| {
        let mut row: Vec<Cell> = vec![route.clone().into(), format!("{count}").into()];
        row.extend([0.5, 0.95, 0.99].map(|part| ms(quantile(part, buckets).map(|seconds| seconds * 1000.0))));
        row
    });
    let note = "From the first byte of a request at the edge to the last of its answer, from its histogram. What the \
                generator saw beyond that is its own waiting for the CPU.";
    let head = vec!["route", "requests", "p50", "p95", "p99"];
    vec![Block::Text(note.to_owned()), Block::Table { head, rows: rows.collect() }]
}

fn statuses(run: &Run) -> Vec<Block> {
    let found = run.summary.by_tag("http_reqs", "status");
    let all: f64 = found.iter().map(|(_, metric)| metric.count()).sum();
    let mut rows = Vec::new();
    for (class, first) in [("2xx", '2'), ("3xx", '3'), ("4xx", '4'), ("5xx", '5'), ("no answer", '0')] {
        let of_class: Vec<_> = found.iter().filter(|(status, _)| status.starts_with(first)).collect();
        let count = of_class.iter().fold(0.0, |count, (_, metric)| count + metric.count());
        let each = of_class.iter().map(|(status, metric)| format!("{status}: {}", metric.count()));
        let share = if all > 0.0 { 100.0 * count / all } else { 0.0 };
        let each = each.collect::<Vec<_>>().join(", ");
        rows.push(vec![class.into(), format!("{count}").into(), format!("{share:.3} %").into(), each.into()]);
    }
    let head = vec!["class", "answers", "share", "by status"];
    vec![Block::Heading("Answers".to_owned()), Block::Table { head, rows }]
}

fn stages(run: &Run) -> Vec<Block> {
    let mut blocks = vec![Block::Heading("Throughput".to_owned())];
    let mut rows = Vec::new();
    for (number, stage) in run.about.stages.iter().enumerate() {
        let part = format!("stage:{}", number + 1);
        let Some(metric) = run.summary.metric(&format!("http_req_duration{{{part}}}")) else { continue };
        let mut row: Vec<Cell> = vec![format!("{}", number + 1).into(), format!("{:.0}", stage.seconds).into()];
        row.push(stage.users.to_string().into());
        row.push(short(metric.count() / stage.seconds.max(f64::MIN_POSITIVE)).into());
        row.extend(["50", "95", "99"].map(|quantile| ms(metric.quantile(quantile))));
        row.push(percent(run.summary.failed(Some(&part))));
        rows.push(row);
    }
    if !rows.is_empty() {
        let head = vec!["stage", "seconds", "users at its end", "requests/s", "p50", "p95", "p99", "failed"];
        blocks.push(Block::Table { head, rows });
    }
    let rate = |name: &str, of: fn(&crate::run::Sample) -> f64| Line { name: name.to_owned(), points: rates(run, of) };
    let lines = [rate("requests", |sample| sample.requests), rate("5xx", |sample| sample.failed)];
    blocks.push(plot("Requests a second at the edge", plot::lines("requests a second", &lines)));
    blocks
}

/// By how much a counter grew each second, between two looks.
fn rates(run: &Run, of: impl Fn(&crate::run::Sample) -> f64) -> Vec<(f64, f64)> {
    let pairs = run.about.samples.iter().zip(run.about.samples.iter().skip(1));
    pairs.map(|(one, next)| (next.at_s, (of(next) - of(one)) / (next.at_s - one.at_s).max(f64::MIN_POSITIVE))).collect()
}

fn endpoints(run: &Run) -> Vec<Block> {
    let found = run.summary.by_tag("http_req_duration", "endpoint");
    let rows = found.iter().map(|(name, metric)| {
        let mut row: Vec<Cell> = vec![(*name).into(), format!("{}", metric.count()).into()];
        row.extend(["50", "95", "99", "99.9"].map(|quantile| ms(metric.quantile(quantile))));
        row.push(ms(metric.value("max")));
        row.push(percent(run.summary.failed(Some(&format!("endpoint:{name}")))));
        row
    });
    let head = vec!["endpoint", "requests", "p50", "p95", "p99", "p99.9", "max", "failed"];
    let quantiles =
        |metric: &Metric| ["50", "95", "99"].map(|quantile| metric.quantile(quantile).unwrap_or(0.0)).to_vec();
    let bars: Vec<_> = found.iter().map(|(name, metric)| ((*name).to_owned(), quantiles(metric))).collect();
    vec![
        Block::Heading("Endpoints".to_owned()),
        Block::Table { head, rows: rows.collect() },
        plot("p50, p95 and p99 in milliseconds", plot::bars("milliseconds", &bars)),
    ]
}

fn targets(run: &Run) -> Vec<Block> {
    let rows = run.summary.targets().into_iter().map(|target| {
        let measured = target.measured.map_or("not asked for".to_owned(), short);
        vec![target.metric.into(), target.expression.into(), measured.into(), Cell::Verdict(target.is_met)]
    });
    let head = vec!["of", "target", "measured", "verdict"];
    vec![Block::Heading("Targets".to_owned()), Block::Table { head, rows: rows.collect() }]
}

fn cache(run: &Run) -> Vec<Block> {
    let Some((hits, misses)) = run.hits_and_misses() else { return Vec::new() };
    let ratio = 100.0 * hits / (hits + misses);
    let mut facts = vec![format!(
        "hit ratio {ratio:.1} % of answers that are for everybody (`s-maxage`): {hits:.0} hits, {misses:.0} misses"
    )];
    let quantiles = |name: &str| {
        let metric = run.summary.metric(name)?;
        Some((metric.quantile("50")?, metric.quantile("95")?))
    };
    if let (Some(hit), Some(miss)) = (quantiles("hit_ms"), quantiles("miss_ms")) {
        facts.push(format!("hits: p50 {} ms, p95 {} ms", short(hit.0), short(hit.1)));
        facts.push(format!("misses: p50 {} ms, p95 {} ms", short(miss.0), short(miss.1)));
        facts.push(format!(
            "a miss costs {} ms more at p50, {} ms at p95",
            short(miss.0 - hit.0),
            short(miss.1 - hit.1)
        ));
    }
    if let (Some(origin), Some(above)) = (run.origin_p95_ms(), run.miss_above_origin_ms()) {
        facts.push(format!(
            "replicas took {} ms for these at p95, by their own clocks: misses are {} ms above",
            short(origin),
            short(above)
        ));
    }
    facts.push(format!(
        "all requests of routes with a cache, by the edge's count: {}. What is for one user alone is a miss there too, and \
         what changes something is a bypass",
        outcomes(run)
    ));
    vec![Block::Heading("Cache".to_owned()), Block::List(facts)]
}

/// What the cache was to requests, by share.
fn outcomes(run: &Run) -> String {
    const COUNTER: &str = "tollgate_cache_requests_total";
    let all = run.growth(COUNTER, "").max(1.0);
    let share = |name: &str| 100.0 * run.growth(COUNTER, &format!("outcome=\"{name}\"")) / all;
    let named = ["hit", "stale", "validated", "collapsed", "miss", "bypass"].map(|name| (name, share(name)));
    let told = named.iter().filter(|(_, share)| *share > 0.0).map(|(name, share)| format!("{name} {share:.1} %"));
    told.collect::<Vec<_>>().join(", ")
}

fn resources(run: &Run) -> Vec<Block> {
    let about = &run.about;
    let rows = about.cpu_s.iter().map(|(role, used)| {
        let cores = used / about.seconds.max(f64::MIN_POSITIVE);
        let per_request = used * 1e6 / run.requests().max(1.0);
        let peak = about.memory_peak_kib.get(role).map_or("–".to_owned(), |kib| format!("{:.1}", kib / 1024.0));
        let cells = [format!("{used:.1}"), format!("{cores:.2}"), format!("{per_request:.0}"), peak];
        let mut row: Vec<Cell> = vec![role.clone().into()];
        row.extend(cells.map(Cell::from));
        row
    });
    let head = vec!["process", "CPU, s", "cores busy", "CPU a request, µs", "memory at its peak, MiB"];
    let line = |role: &String, of: fn(&crate::run::Sample, &str) -> f64| Line {
        name: role.clone(),
        points: rates(run, |sample| of(sample, role)),
    };
    let cpu = about.cpu_s.keys().map(|role| line(role, |sample, role| sample.cpu_s.get(role).copied().unwrap_or(0.0)));
    // The generator's is many times that of the others, which would be flat beside it.
    let served = about.memory_peak_kib.keys().filter(|role| *role != GENERATOR);
    let memory = served.map(|role| Line {
        name: role.clone(),
        points: about
            .samples
            .iter()
            .map(|each| (each.at_s, each.memory_kib.get(role).copied().unwrap_or(0.0) / 1024.0))
            .collect(),
    });
    let mut blocks = vec![
        Block::Heading("CPU and memory".to_owned()),
        Block::Table { head, rows: rows.collect() },
        plot("Cores busy", plot::lines("cores", &cpu.collect::<Vec<_>>())),
        plot("Resident memory in MiB, without the generator's", plot::lines("MiB", &memory.collect::<Vec<_>>())),
    ];
    blocks.extend(growth(run));
    blocks
}

/// What a leak would show in.
fn growth(run: &Run) -> Vec<Block> {
    let (trends, Some((from, to))) = (memory::trends(run), memory::steady(&run.about)) else { return Vec::new() };
    if trends.is_empty() {
        return Vec::new();
    }
    let rows = trends.iter().map(|trend| {
        let mut row: Vec<Cell> = vec![trend.role.clone().into()];
        row.extend(trend.quarters.map(|mib| format!("{mib:.1}").into()));
        row.extend([trend.hourly, trend.a_request].map(|grown| format!("{grown:+.1}").into()));
        row
    });
    let note = format!(
        "Resident memory in MiB while as many users stayed, from {from:.0} s to {to:.0} s: the mean of each quarter, and what came \
         from the third to the fourth. A leak grows in each alike, what fills up grows ever less."
    );
    let head = vec!["process", "1st", "2nd", "3rd", "4th", "grown, MiB an hour", "bytes a request"];
    vec![Block::Text(note), Block::Table { head, rows: rows.collect() }]
}

/// What this mix would take at other rates, if CPU time a request stays what it is.
fn capacity(run: &Run) -> Vec<Block> {
    let served: Vec<_> = ["edge", "replica", "postgres", "redis"].map(|role| (role, run.cpu_us(role))).into();
    let rows = PROJECTED.map(|rate| {
        let cores = |us: f64| us * f64::from(rate) / 1e6;
        let mut row: Vec<Cell> = vec![rate.to_string().into()];
        row.extend(served.iter().map(|(_, us)| Cell::from(format!("{:.1}", cores(*us)))));
        // A replica has one thread.
        row.push(format!("{:.0}", (cores(run.cpu_us("replica")) / BUSY).ceil()).into());
        row
    });
    let head = vec!["requests/s", "cores: edge", "replicas", "PostgreSQL", "Redis", "replicas needed"];
    let note = format!(
        "Cores for this mix of requests, if each costs what it cost here; replicas that are busy {:.0} % of the time. At low \
         rates a request costs more than at high ones, so this is rather too much. SQLite writes one at a time: what \
         writes beyond one core needs PostgreSQL.",
        100.0 * BUSY
    );
    vec![Block::Heading("Capacity".to_owned()), Block::Text(note), Block::Table { head, rows: rows.into() }]
}

fn plot(caption: &str, svg: String) -> Block {
    Block::Plot { caption: caption.to_owned(), svg }
}

fn ms(figure: Option<f64>) -> Cell {
    figure.map_or("–".to_owned(), short).into()
}

fn percent(share: f64) -> Cell {
    format!("{:.2} %", 100.0 * share).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::run;

    #[test]
    fn the_report_has_each_part_with_its_figures() {
        let text = report(&run()).markdown();
        for line in [
            "# Load test: normal, 2026-11-21",
            "1 of 4 targets are missed.",
            "- 200 requests in 10 s, 20 a second; 5.000 % failed",
            "| all | 3.00 | 4.00 | 6.00 | 8.00 | 20.0 | 40.0 | 50.0 |",
            "| 5xx | 10 | 5.000 % | 503: 10 |",
            "| 1 | 10 | 5 | 20.0 | 3.00 | 8.00 | 20.0 | 0.00 % |",
            "| login | 20 | 30.0 | 80.0 | 90.0 | – | 99.0 | 0.00 % |",
            "| http_req_duration | p(95)<7 | 8.00 | **FAIL** |",
            "| http_req_duration{endpoint:order} | p(95)<2000 | not asked for | pass |",
            "- hit ratio 90.0 % of answers that are for everybody (`s-maxage`): 90 hits, 10 misses",
            "- a miss costs 4.00 ms more at p50, 5.00 ms at p95",
            "- replicas took 1.95 ms for these at p95, by their own clocks: misses are 5.05 ms above",
            "| edge | 0.0 | 0.00 | 100 | 40.0 |",
            "| 10000 | 1.0 | 5.0 | 0.0 | 0.0 | 8 |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(text.contains("by the edge's count: hit 42.9 %, miss 14.3 %, bypass 42.9 %."), "{text}");
    }

    #[test]
    fn the_page_needs_nothing_else_and_has_its_plots() {
        let page = report(&run()).html();
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        assert!(page.contains("A &lt;fast&gt; one"));
    }
}
