//! Where telemetry goes and how, of the caller's configuration and the standard's variables. The configuration wins;
//! only `OTEL_SDK_DISABLED` stands above it, being the switch for who cannot change the file. Pure.
//!
//! A variable that cannot be read is passed over, as the standard asks, and named among the faults.

use std::fmt;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::sampler::Sampler;
use crate::variables::Variables;

const TIMEOUT: Duration = Duration::from_secs(10);
const METRICS_INTERVAL: Duration = Duration::from_secs(60);

/// What the caller's own configuration says.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `http://127.0.0.1:4318`: the path of each signal is appended. For gRPC there is no path.
    pub endpoint: Option<Uri>,
    pub protocol: Option<Protocol>,
    pub headers: HeaderMap,
    /// For one message, with its answer.
    pub timeout: Option<Duration>,
    /// `service.name`.
    pub service: Option<String>,
    pub resource: Vec<(String, String)>,
    pub sampler: Option<Sampler>,
    /// Whether metrics are pushed; None: if there is where to.
    pub metrics: Option<bool>,
    /// How often.
    pub metrics_interval: Option<Duration>,
    /// What holds if neither the configuration nor a variable says otherwise; `service.name` belongs here.
    pub defaults: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    HttpProtobuf,
    Grpc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
}

/// Everything, resolved. Two that are equal do the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// None: spans are not exported.
    pub traces: Option<Target>,
    /// None: metrics are not pushed.
    pub metrics: Option<Target>,
    pub metrics_interval: Duration,
    pub resource: Vec<(String, String)>,
    /// None if nobody says.
    pub sampler: Option<Sampler>,
    pub batching: Batching,
}

/// Where the messages of one signal go.
#[derive(Clone, PartialEq)]
pub struct Target {
    pub signal: Signal,
    /// For gRPC, the path is that of the service.
    pub url: Uri,
    pub protocol: Protocol,
    /// They may be secret.
    pub headers: HeaderMap,
    pub timeout: Duration,
}

/// How spans are put together, by the variables of the standard's batch processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Spans that wait or are on their way; those beyond are dropped.
    pub queue_max: usize,
    pub batch_max: usize,
    /// No span waits longer for others. A second, and not the five of the standard: who looks for a trace is there already.
    pub delay: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { queue_max: 2048, batch_max: 512, delay: Duration::from_secs(1) }
    }
}

impl Settings {
    /// The settings, and what is wrong with variables.
    pub fn resolve(given: &Given, variable: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut variables = Variables::new(variable);
        let is_disabled = variables.flag("OTEL_SDK_DISABLED");
        let mut target = |signal| if is_disabled { None } else { target(signal, given, &mut variables) };
        let (traces, metrics) = (target(Signal::Traces), target(Signal::Metrics));
        let interval = given.metrics_interval.or_else(|| variables.milliseconds("OTEL_METRIC_EXPORT_INTERVAL"));
        let settings = Self {
            traces,
            metrics: metrics.filter(|_| given.metrics != Some(false)),
            metrics_interval: interval.filter(|interval| !interval.is_zero()).unwrap_or(METRICS_INTERVAL),
            resource: resource(given, &mut variables),
            sampler: given.sampler.or_else(|| sampler(&mut variables)),
            batching: batching(&mut variables),
        };
        let mut faults = variables.faults;
        // Those that both signals share are looked at twice.
        faults.sort();
        faults.dedup();
        (settings, faults)
    }
}

fn target(signal: Signal, given: &Given, variables: &mut Variables<'_>) -> Option<Target> {
    let exporter = format!("OTEL_{}_EXPORTER", signal.word());
    match variables.text(&exporter).as_deref() {
        None | Some("otlp") => {}
        Some("none" | "prometheus") => return None,
        Some(other) => variables.fault(&exporter, other, "`otlp` or `none`"),
    }
    let protocol = given.protocol.or_else(|| protocol(signal, variables)).unwrap_or(Protocol::HttpProtobuf);
    let (base, is_whole) = match &given.endpoint {
        Some(base) => (base.clone(), false),
        None => endpoint(signal, variables)?,
    };
    let url = signal.url(protocol, &base, is_whole)?;
    let timeout = given.timeout.or_else(|| {
        let (name, _) = variables.of_signal(signal.word(), "TIMEOUT")?;
        variables.milliseconds(&name)
    });
    let headers = headers(signal, given, variables);
    Some(Target { signal, url, protocol, headers, timeout: timeout.unwrap_or(TIMEOUT) })
}

fn protocol(signal: Signal, variables: &mut Variables<'_>) -> Option<Protocol> {
    let (name, text) = variables.of_signal(signal.word(), "PROTOCOL")?;
    let protocol = Protocol::named(&text);
    if protocol.is_none() {
        variables.fault(&name, &text, "`http/protobuf` or `grpc`");
    }
    protocol
}

/// The one of the signal is taken as it is; to the one for all, a path is appended.
fn endpoint(signal: Signal, variables: &mut Variables<'_>) -> Option<(Uri, bool)> {
    let (name, text) = variables.of_signal(signal.word(), "ENDPOINT")?;
    let uri = text.parse().ok().filter(is_absolute);
    if uri.is_none() {
        variables.fault(&name, &text, "a URL such as `http://127.0.0.1:4318`");
    }
    uri.map(|uri| (uri, name.contains(signal.word())))
}

/// Whether it is `http://…` or `https://…` with a host, and with a port that there can be, if any.
pub fn is_absolute(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let (host, place) = (authority.host(), authority.as_str().rsplit('@').next().unwrap_or_default());
    // What cannot be read as a port counts as none.
    let has_port = place.strip_prefix(host).is_some_and(|rest| rest.len() > ":".len());
    matches!(uri.scheme_str(), Some("http" | "https")) && !host.is_empty() && has_port == authority.port().is_some()
}

fn headers(signal: Signal, given: &Given, variables: &mut Variables<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some((name, text)) = variables.of_signal(signal.word(), "HEADERS") {
        for (key, value) in variables.pairs(&name, &text) {
            match (HeaderName::try_from(&key), HeaderValue::try_from(&value)) {
                (Ok(key), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(key, value);
                }
                _ => variables.faults.push(format!("{name}: `{key}` is no field of HTTP with its value")),
            }
        }
    }
    headers.extend(given.headers.clone());
    headers
}

fn resource(given: &Given, variables: &mut Variables<'_>) -> Vec<(String, String)> {
    let mut resource = given.defaults.clone();
    let mut set = |key: String, value: String| match resource.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => *known = value,
        None => resource.push((key, value)),
    };
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    if let Some(text) = variables.text(NAME) {
        variables.pairs(NAME, &text).into_iter().for_each(|(key, value)| set(key, value));
    }
    if let Some(service) = variables.text("OTEL_SERVICE_NAME") {
        set("service.name".to_owned(), service);
    }
    given.resource.iter().cloned().for_each(|(key, value)| set(key, value));
    if let Some(service) = &given.service {
        set("service.name".to_owned(), service.clone());
    }
    resource
}

fn sampler(variables: &mut Variables<'_>) -> Option<Sampler> {
    let name = variables.text("OTEL_TRACES_SAMPLER")?;
    let argument = variables.text("OTEL_TRACES_SAMPLER_ARG");
    let sampler = Sampler::named(&name, argument.as_deref());
    if sampler.is_none() {
        let shown = argument.map_or(name.clone(), |argument| format!("{name}, {argument}"));
        variables.fault("OTEL_TRACES_SAMPLER", &shown, "a sampler of the standard with a ratio from 0 to 1");
    }
    sampler
}

fn batching(variables: &mut Variables<'_>) -> Batching {
    const QUEUE_MAX: u64 = 1 << 20;
    let standard = Batching::default();
    let mut count = |name, default: usize| {
        let given = variables.number(name).filter(|number| (1..=QUEUE_MAX).contains(number));
        given.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let queue_max = count("OTEL_BSP_MAX_QUEUE_SIZE", standard.queue_max);
    let batch_max = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", standard.batch_max).min(queue_max);
    let delay = variables.milliseconds("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(standard.delay);
    Batching { queue_max, batch_max, delay }
}

impl Protocol {
    /// As the variables and configurations write it.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "http/protobuf" => Some(Self::HttpProtobuf),
            "grpc" => Some(Self::Grpc),
            _ => None,
        }
    }
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    fn url(self, protocol: Protocol, base: &Uri, is_whole: bool) -> Option<Uri> {
        let path = match (protocol, self) {
            (Protocol::Grpc, Self::Traces) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export".to_owned(),
            (Protocol::Grpc, Self::Metrics) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".to_owned()
            }
            (Protocol::HttpProtobuf, _) if is_whole => base.path().to_owned(),
            (Protocol::HttpProtobuf, Self::Traces) => format!("{}/v1/traces", base.path().trim_end_matches('/')),
            (Protocol::HttpProtobuf, Self::Metrics) => format!("{}/v1/metrics", base.path().trim_end_matches('/')),
        };
        let authority = without_user(base.authority()?)?;
        let scheme = base.scheme().cloned().unwrap_or(Scheme::HTTP);
        let path = PathAndQuery::try_from(path).ok()?;
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }
}

fn without_user(authority: &Authority) -> Option<Authority> {
    authority.as_str().rsplit('@').next()?.parse().ok()
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().collect();
        write!(f, "{:?} to {} by {:?} within {:?} with {names:?}", self.signal, self.url, self.protocol, self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: &Given, variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let variable =
            |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        Settings::resolve(given, &variable)
    }

    fn given(endpoint: &str) -> Given {
        Given { endpoint: Some(endpoint.parse().unwrap()), ..Given::default() }
    }

    fn given_none() -> Given {
        Given::default()
    }

    #[test]
    fn where_each_signal_goes() {
        let check = |given: &Given, variables: &[(&str, &str)], traces: &str, metrics: &str| {
            let (settings, faults) = resolve(given, variables);
            let shown = |target: Option<Target>| target.map_or(String::new(), |target| target.url.to_string());
            assert_eq!((shown(settings.traces), shown(settings.metrics)), (traces.into(), metrics.into()));
            assert_eq!(faults, Vec::<String>::new(), "{variables:?}");
        };
        let none = Given::default();
        check(&none, &[], "", "");
        check(&given("http://a:4318"), &[], "http://a:4318/v1/traces", "http://a:4318/v1/metrics");
        check(&given("https://a/in/"), &[], "https://a/in/v1/traces", "https://a/in/v1/metrics");
        check(&none, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1")], "http://b:1/v1/traces", "http://b:1/v1/metrics");
        check(&none, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1/x")], "http://b:1/x", "");
        check(&none, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1")], "http://b:1/", "");
        check(
            &given("http://a:4318"),
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1/x")],
            "http://a:4318/v1/traces",
            "http://a:4318/v1/metrics",
        );
        check(
            &none,
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "http://b:1/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "http://b:1/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        );
        check(&given("http://a:4318"), &[("OTEL_SDK_DISABLED", "true")], "", "");
        check(&given("http://a:1"), &[("OTEL_METRICS_EXPORTER", "none")], "http://a:1/v1/traces", "");
        check(&Given { metrics: Some(false), ..given("http://a:1") }, &[], "http://a:1/v1/traces", "");
    }

    #[test]
    fn how_often_metrics_are_pushed() {
        let check = |given: Option<u64>, variable: &[(&str, &str)], seconds: u64| {
            let given = Given { metrics_interval: given.map(Duration::from_secs), ..given_none() };
            assert_eq!(resolve(&given, variable).0.metrics_interval, Duration::from_secs(seconds));
        };
        let given_by = [("OTEL_METRIC_EXPORT_INTERVAL", "15000")];
        check(None, &[], 60);
        check(None, &given_by, 15);
        check(Some(5), &given_by, 5);
        check(None, &[("OTEL_METRIC_EXPORT_INTERVAL", "0")], 60);
    }

    #[test]
    fn the_configuration_wins_over_variables() {
        let given = Given {
            timeout: Some(Duration::from_secs(1)),
            service: Some("edge".to_owned()),
            sampler: Some(Sampler::ratio(0.5)),
            headers: HeaderMap::from_iter([(HeaderName::from_static("a"), HeaderValue::from_static("ours"))]),
            defaults: vec![("service.name".to_owned(), "default".to_owned()), ("host.name".to_owned(), "h".to_owned())],
            ..given("http://a:4318")
        };
        let variables = [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=theirs,b=theirs"),
            ("OTEL_SERVICE_NAME", "theirs"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ];
        let (settings, faults) = resolve(&given, &variables);
        assert_eq!(faults, Vec::<String>::new());
        let target = settings.traces.unwrap();
        assert_eq!(target.timeout, Duration::from_secs(1));
        assert_eq!(
            (&target.headers["a"], &target.headers["b"]),
            (&"ours".parse().unwrap(), &"theirs".parse().unwrap())
        );
        assert!(!format!("{target:?}").contains("theirs"));
        assert_eq!(settings.sampler, Some(Sampler::ratio(0.5)));
        let delay = Duration::from_millis(50);
        assert_eq!(settings.batching, Batching { queue_max: 100, batch_max: 100, delay });
        let expected = [("service.name", "edge"), ("host.name", "h"), ("deployment.environment.name", "test")];
        assert_eq!(settings.resource, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));

        let (settings, _) = resolve(&Given { defaults: given.defaults, ..Given::default() }, &variables);
        assert_eq!(settings.resource[0].1, "theirs");
        assert_eq!(settings.sampler, Sampler::named("always_off", None));
    }

    #[test]
    fn variables_that_cannot_be_read_are_passed_over_and_named() {
        let check = |name: &str, value: &str| {
            let (settings, faults) = resolve(&given("http://a:4318"), &[(name, value)]);
            assert!(settings.traces.is_some());
            assert_eq!(faults.len(), 1, "{name}: {faults:?}");
            assert!(faults[0].starts_with(name), "{faults:?}");
        };
        check("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        check("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon");
        check("OTEL_EXPORTER_OTLP_HEADERS", "a");
        check("OTEL_EXPORTER_OTLP_HEADERS", "a b=1");
        check("OTEL_TRACES_EXPORTER", "zipkin");
        check("OTEL_TRACES_SAMPLER", "xray");
        check("OTEL_BSP_MAX_QUEUE_SIZE", "many");
        check("OTEL_RESOURCE_ATTRIBUTES", "x");
        for endpoint in ["localhost:4318", "ftp://a", "http://a:99999", "http://me@a:0x1"] {
            let (settings, faults) = resolve(&Given::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
            assert_eq!((settings.traces, faults.len()), (None, 1), "{endpoint}");
        }
    }

    #[test]
    fn an_absolute_url_has_a_host_and_no_impossible_port() {
        let check = |url: &str, expected: bool| {
            assert_eq!(url.parse::<Uri>().is_ok_and(|url| is_absolute(&url)), expected, "{url}");
        };
        for url in ["http://a", "https://a/", "http://a:1/x", "http://[::1]", "http://[::1]:65535", "http://me@a:1"] {
            check(url, true);
        }
        for url in ["/a", "a:1", "ftp://a", "http://a:65536", "http://[::1]:99999/x", "http://me:1@a:99999"] {
            check(url, false);
        }
    }
}
