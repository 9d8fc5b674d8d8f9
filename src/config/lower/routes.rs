//! `[[route]]`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::{HeaderName, StatusCode};

use crate::config::decode::{Decoder, Map};
use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::file::{self, File};
use crate::config::nearest::did_you_mean;
use crate::config::section::{List, Setting};
use crate::config::value::field_name;
use crate::config::{
    Action, Buffer, FieldEdits, HostPattern, HostPolicy, PathMatch, Profile, ProxyPass, Route, Timeouts, Upstream,
};

use super::Lowering;
use super::compress::Base;
use super::route_names::path_text;

/// More read ahead a request would let few clients take all memory.
const BUFFER_MAX: usize = 64 << 20;
/// A worker would be held for longer than a request may hold it.
const ETAG_BODY_MAX: usize = 4 << 20;

/// Upstreams that routes can name.
struct Known<'a> {
    names: BTreeSet<&'a str>,
    /// Those that are right.
    upstreams: BTreeMap<&'a str, &'a Upstream>,
    profile: Profile,
    /// A name that is not among them is an error.
    complete: bool,
}

impl Lowering<'_> {
    pub(super) fn routes(&mut self, file: &Setting<File>, upstreams: &[Upstream], compress: &Base) -> Vec<Route> {
        let default_limits = self.named_limits(&file.value.client.value.rate_limit.value, file);
        let whole = file;
        let Setting { value: file, origin, tainted } = file;
        let (sections, body_max) = (&file.route.value, file.client.value.body_max.value.0);
        if sections.is_empty() && !tainted {
            let error = Diagnostic::error(*origin, "every request would be answered with 404: there is no `[[route]]`");
            self.report(error.help("add `[[route]]` with `path = \"/\"` and `upstream`"));
        }
        let Map { entries, unread } = &file.upstream.value;
        let names = entries.iter().map(|(name, _)| name.value.as_str()).chain(unread.iter().map(String::as_str));
        // Without any, while something in the file could not be read, their table may be what was misspelt.
        let known = Known {
            names: names.collect(),
            upstreams: upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream)).collect(),
            profile: file.profile.value,
            complete: !tainted || !entries.is_empty(),
        };
        let (mut routes, mut given) = (Vec::new(), Vec::new());
        let mut taken = Taken::default();
        for setting in sections {
            let section = &setting.value;
            let path = self.path(setting);
            let action = self.action(setting, &known);
            let edits = (self.field_edits(&section.request.value), self.field_edits(&section.response.value));
            let limits = section.rate_limit.as_ref().map(|names| self.named_limits(&names.value, whole));
            let (Some((path, path_origin)), Some(action)) = (path, action) else { continue };
            let route = Route {
                name: String::new(),
                origin: self.place(setting.origin),
                hosts: section.hosts.value.iter().map(|host| host.value.clone()).collect(),
                path,
                action,
                allow: section.allow.value.iter().map(|network| network.value).collect(),
                deny: section.deny.value.iter().map(|network| network.value).collect(),
                request_fields: edits.0,
                response_fields: edits.1,
                requests_max: section.requests_max.value.to_usize(),
                access_log: section.access_log.value,
                rate_limit: limits.unwrap_or_else(|| default_limits.clone()),
                body_max: section.body_max.as_ref().map_or(body_max, |size| size.value.0),
                compress: self.route_compress(section.compress.as_ref(), compress),
                reflects_input: section.reflects_input.value,
            };
            if let Some(first) = taken.by(&route, path_origin) {
                let message = format!("this route can never match: `{}` is taken", path_text(&route.path));
                let error = Diagnostic::error(path_origin, message).label("never reached");
                let help = route.hosts.is_empty().then(|| "routes with the same path differ by `hosts`".to_owned());
                self.report(error.also(first, "taken here").maybe_help(help));
            }
            routes.push(route);
            given.push((section.name.as_ref(), path_origin));
        }
        self.name_routes(&mut routes, &given);
        routes
    }

    fn path(&mut self, setting: &Setting<file::Route>) -> Option<(PathMatch, Origin)> {
        let section = &setting.value;
        let prefix = section.path.as_ref();
        let prefix = prefix.map(|path| ("path", path.origin, PathMatch::Prefix(path.value.0.clone())));
        let exact = section.path_exact.as_ref();
        let exact = exact.map(|path| ("path_exact", path.origin, PathMatch::Exact(path.value.0.clone())));
        let regex = section.path_regex.as_ref();
        let regex = regex.map(|path| ("path_regex", path.origin, PathMatch::Regex(path.value.0.clone())));
        let given = [prefix, exact, regex].into_iter().flatten().collect();
        self.only_one(setting, given, "`path`, `path_exact` or `path_regex`", "path")
    }

    fn action(&mut self, setting: &Setting<file::Route>, known: &Known<'_>) -> Option<Action> {
        enum Kind<'a> {
            Proxy(&'a Setting<String>),
            Redirect(&'a Setting<String>),
            Text(&'a String),
            Stub,
        }
        let section = &setting.value;
        let upstream = section.upstream.as_ref().map(|to| ("upstream", to.origin, Kind::Proxy(to)));
        let redirect = section.redirect.as_ref().map(|to| ("redirect", to.origin, Kind::Redirect(to)));
        let text = section.text.as_ref().map(|text| ("text", text.origin, Kind::Text(&text.value)));
        let status = section.status.as_ref().map(|page| ("status", page.origin, Kind::Stub));
        let given = [upstream, redirect, text, status].into_iter().flatten().collect();
        let (kind, origin) = self.only_one(setting, given, "`upstream`, `redirect`, `text` or `status`", "action")?;
        if !matches!(kind, Kind::Proxy(_)) {
            self.proxy_keys_without_upstream(section, origin);
        }
        match kind {
            Kind::Proxy(name) => {
                self.refuse_code(section, "upstream");
                self.proxy(section, name, known).map(|proxy| Action::Proxy(Box::new(proxy)))
            }
            Kind::Redirect(to) => {
                let status = self.redirect_code(section)?;
                self.redirect_target(to).then(|| Action::Redirect { to: to.value.clone(), status })
            }
            Kind::Text(body) => {
                let status = section.code.as_ref().map_or(StatusCode::OK, |code| code.value);
                Some(Action::Text { body: body.clone(), status })
            }
            Kind::Stub => {
                self.refuse_code(section, "status");
                Some(Action::StubStatus)
            }
        }
    }

    /// Exactly one of some keys: none and two are errors.
    fn only_one<T>(
        &mut self,
        section: &Setting<file::Route>,
        given: Vec<(&str, Origin, T)>,
        choices: &str,
        what: &str,
    ) -> Option<(T, Origin)> {
        let mut given = given.into_iter();
        let Some((first_key, first, value)) = given.next() else {
            if !section.tainted {
                let error = Diagnostic::error(section.origin, format!("this route has no {what}"));
                self.report(error.label(format!("expected {choices}")));
            }
            return None;
        };
        for (key, origin, _) in given {
            let error = Diagnostic::error(origin, format!("this route has both `{first_key}` and `{key}`"));
            self.report(error.label("and here").also(first, "here").help("keep one of them, or make two routes"));
        }
        Some((value, first))
    }

    fn proxy(&mut self, section: &file::Route, name: &Setting<String>, known: &Known<'_>) -> Option<ProxyPass> {
        let path = self.path_rewrite(section);
        let buffer = match &section.buffer {
            Some(buffer) => self.buffer(&buffer.value),
            None => self.buffer(&Decoder::defaults(known.profile)),
        };
        if !known.names.contains(name.value.as_str()) {
            let mut error = Diagnostic::error(name.origin, format!("there is no upstream `{}`", name.value))
                .label("not defined")
                .maybe_help(did_you_mean(&name.value, known.names.iter().copied()));
            if name.value.contains(':') {
                error = error.help("name an `[upstream.NAME]` here; its `endpoints` hold the addresses");
            }
            if known.complete {
                self.report(error);
            }
            return None;
        }
        // An upstream that is defined but wrong has been reported already.
        let upstream = *known.upstreams.get(name.value.as_str())?;
        let timeout = self.route_timeout(upstream.timeout, section);
        Some(ProxyPass {
            upstream: name.value.clone(),
            host: section.host.as_ref().map_or(HostPolicy::Preserve, |host| host.value.0.clone()),
            path,
            timeout,
            buffer,
            etag_body_max: section.etag.as_ref().and_then(|etag| etag.value.0.as_ref()).map(|etag| self.etag(etag)),
            cache: section.cache.as_ref().and_then(|cache| cache.value.0.as_ref()).map(|cache| self.route_cache(cache)),
            fallback: section.fallback.as_ref().and_then(|page| self.fallback(page)),
        })
    }

    fn route_timeout(&mut self, of_upstream: Timeouts, section: &file::Route) -> Timeouts {
        let Some(timeout) = &section.timeout else { return of_upstream };
        let timeouts = overridden(of_upstream, &timeout.value);
        self.attempt_within_total(&timeouts, timeout.value.attempt.as_ref().or(timeout.value.total.as_ref()));
        timeouts
    }

    fn buffer(&mut self, buffer: &file::BufferTable) -> Buffer {
        for size in [&buffer.request, &buffer.response] {
            if size.value.to_usize() > BUFFER_MAX {
                let error = Diagnostic::error(size.origin, "more than 64 MiB read ahead for one request");
                self.report(error.label("at most \"64MiB\""));
            }
        }
        Buffer { request: buffer.request.value.to_usize(), response: buffer.response.value.to_usize() }
    }

    fn etag(&mut self, etag: &file::RouteEtag) -> usize {
        let (size, origin) = (etag.body_max.value.to_usize(), etag.body_max.origin);
        if size > ETAG_BODY_MAX {
            let error = Diagnostic::error(origin, "more than 4 MiB held and hashed for one answer");
            self.report(error.label("at most \"4MiB\""));
        }
        size
    }

    fn proxy_keys_without_upstream(&mut self, section: &file::Route, action: Origin) {
        let keys = [
            ("host", section.host.as_ref().map(|key| key.origin)),
            ("strip_prefix", section.strip_prefix.as_ref().map(|key| key.origin)),
            ("rewrite", section.rewrite.as_ref().map(|key| key.origin)),
            ("timeout", section.timeout.as_ref().map(|key| key.origin)),
            ("cache", section.cache.as_ref().map(|key| key.origin)),
            ("etag", section.etag.as_ref().map(|key| key.origin)),
            ("fallback", section.fallback.as_ref().map(|key| key.origin)),
            ("buffer", section.buffer.as_ref().map(|key| key.origin)),
        ];
        for (key, origin) in keys {
            if let Some(origin) = origin {
                let error = Diagnostic::error(origin, format!("`{key}` is for routes with `upstream`"));
                self.report(error.label("has no effect here").also(action, "the action of this route"));
            }
        }
    }

    fn refuse_code(&mut self, section: &file::Route, action: &str) {
        if let Some(code) = &section.code {
            let message = format!("`code` is for `redirect` and `text`, not for `{action}`");
            self.report(Diagnostic::error(code.origin, message));
        }
    }

    fn redirect_code(&mut self, section: &file::Route) -> Option<StatusCode> {
        let Some(code) = &section.code else { return Some(StatusCode::PERMANENT_REDIRECT) };
        if matches!(code.value.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Some(code.value);
        }
        let error = Diagnostic::error(code.origin, format!("{} does not redirect", code.value.as_u16()));
        self.report(error.label("expected 301, 302, 303, 307 or 308"));
        None
    }

    fn redirect_target(&mut self, to: &Setting<String>) -> bool {
        let names = [("{host}", "host"), ("{path}", "/"), ("{uri}", "/")];
        let filled = names.iter().fold(to.value.clone(), |text, (name, value)| text.replace(name, value));
        let error = Diagnostic::error(to.origin, "not a target for a redirect");
        let error = if to.value.contains('$') && !to.value.contains('{') {
            error.help("nginx's $host and $request_uri are {host} and {uri} here")
        } else if filled.contains(['{', '}']) {
            error.help("what is filled in are {host}, {path} and {uri}")
        } else if !["/", "http://", "https://"].iter().any(|start| filled.starts_with(start)) {
            error.help("it starts with https://, http:// or /")
        } else if !filled.bytes().all(|byte| byte.is_ascii_graphic()) {
            error.label("a URL is visible ASCII without spaces")
        } else {
            return true;
        };
        self.report(error);
        false
    }

    fn field_edits(&mut self, fields: &file::Fields) -> FieldEdits {
        let set = fields
            .set
            .value
            .entries
            .iter()
            .filter_map(|(name, value)| self.field(name).map(|name| (name, value.value.0.clone())));
        let set = set.collect();
        let remove = self.field_names(&fields.remove.value);
        FieldEdits { set, remove }
    }

    fn field_names(&mut self, names: &List<String>) -> Vec<HeaderName> {
        names.iter().filter_map(|name| self.field(name)).collect()
    }

    fn field(&mut self, name: &Setting<String>) -> Option<HeaderName> {
        match field_name(&name.value) {
            Ok(name) => Some(name),
            Err(problem) => {
                self.report(Diagnostic::error(name.origin, problem.message).maybe_help(problem.help));
                None
            }
        }
    }
}

fn overridden(upstream: Timeouts, route: &file::RouteTimeout) -> Timeouts {
    let limit = |own: &Option<Setting<crate::config::value::Limit>>| own.as_ref().map(|limit| limit.value.0);
    Timeouts {
        connect: limit(&route.connect).unwrap_or(upstream.connect),
        send: limit(&route.send).unwrap_or(upstream.send),
        read: limit(&route.read).unwrap_or(upstream.read),
        tunnel_idle: limit(&route.tunnel_idle).unwrap_or(upstream.tunnel_idle),
        total: limit(&route.total).or(upstream.total),
        attempt: limit(&route.attempt).or(upstream.attempt),
    }
}

/// Hosts and paths of the routes before, and where each was first taken. No host is every host.
#[derive(Default)]
struct Taken(HashMap<(Option<HostPattern>, &'static str, String), Origin>);

impl Taken {
    /// Where all that a route is for was taken before it, if so; what was not is its own from here on.
    fn by(&mut self, route: &Route, origin: Origin) -> Option<Origin> {
        let (kind, path) = match &route.path {
            PathMatch::Prefix(path) => ("prefix", path.as_str()),
            PathMatch::Exact(path) => ("exact", path.as_str()),
            PathMatch::Regex(regex) => ("regex", regex.as_str()),
        };
        let hosts: Vec<_> = match route.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().cloned().map(Some).collect(),
        };
        let mut first = None;
        let mut is_free = false;
        for host in hosts {
            match self.0.entry((host, kind, path.to_owned())) {
                Entry::Occupied(taken) => first = first.or(Some(*taken.get())),
                Entry::Vacant(free) => {
                    free.insert(origin);
                    is_free = true;
                }
            }
        }
        first.filter(|_| !is_free)
    }
}
