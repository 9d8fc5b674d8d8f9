//! `[[listen]]` and `[[certificate]]`.

use std::collections::HashMap;
use std::net::SocketAddr;

use http::HeaderValue;

use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::file::{self, File};
use crate::config::section::{List, Setting};
use crate::config::value::{HttpsRedirect, Protocol};
use crate::config::{Certificate, CertificateSource, HostPattern, Listen, ListenTls, Protocols};

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn listeners(&mut self, file: &Setting<File>) -> Vec<Listen> {
        let Setting { value: file, origin, tainted } = file;
        let sections = &file.listen.value;
        if sections.is_empty() && !tainted {
            self.report(
                Diagnostic::error(*origin, "nothing is served: there is no `[[listen]]`")
                    .help("add `[[listen]]` with `address = \"127.0.0.1:8080\"`"),
            );
        }
        self.duplicate_addresses(file);
        let with_tls = sections.iter().find(|listen| tls(&listen.value).is_some());
        let any_tls = with_tls.and_then(|listen| tls(&listen.value));
        if let (Some((_, origin)), true) = (any_tls, file.certificate.value.is_empty() && !tainted) {
            self.report(
                Diagnostic::error(origin, "TLS without any certificate")
                    .label("this listener needs one")
                    .help("add `[[certificate]]` with `hosts`, and `certificate` and `key`, or `local = true`"),
            );
        }
        sections.iter().filter_map(|listen| self.listener(listen, with_tls)).collect()
    }

    fn listener(
        &mut self,
        section: &Setting<file::Listen>,
        with_tls: Option<&Setting<file::Listen>>,
    ) -> Option<Listen> {
        let listen = &section.value;
        let tls = tls(listen).map(|(tls, _)| tls);
        let https_redirect = self.https_redirect(section, with_tls);
        let hsts = listen.hsts.as_ref().and_then(|hsts| hsts.value.0.as_ref().map(|value| (value, hsts.origin)));
        if let (Some((_, origin)), None) = (&hsts, &tls) {
            // RFC 6797 §7.2: the field must not be sent over cleartext.
            self.report(Diagnostic::error(*origin, "`hsts` is for listeners with TLS").label("this one has none"));
        }
        let protocols = self.protocols(listen, tls.is_some());
        Some(Listen {
            address: listen.address.as_ref()?.value,
            tls,
            protocols,
            https_redirect,
            hsts: hsts.and_then(|(hsts, _)| hsts_value(hsts)),
        })
    }

    /// The port that requests are redirected to.
    fn https_redirect(
        &mut self,
        section: &Setting<file::Listen>,
        with_tls: Option<&Setting<file::Listen>>,
    ) -> Option<u16> {
        let redirect = &section.value.https_redirect;
        if redirect.value != HttpsRedirect::Off
            && let Some((_, tls)) = tls(&section.value)
        {
            let error = Diagnostic::error(redirect.origin, "a listener with TLS cannot redirect to https");
            self.report(error.label("every request here is https already").also(tls, "has `tls`"));
            return None;
        }
        match (redirect.value, with_tls) {
            (HttpsRedirect::Off, _) => None,
            (HttpsRedirect::ToPort(port), _) => Some(port),
            (HttpsRedirect::ToListener, None) => {
                if !section.tainted {
                    let error = Diagnostic::error(redirect.origin, "there is no listener with TLS to redirect to");
                    let error = error.help("add a `[[listen]]` with `tls = true`");
                    self.report(error.help("if something else serves https for these hosts, name its port: `443`"));
                }
                None
            }
            (HttpsRedirect::ToListener, Some(with_tls)) => {
                let address = with_tls.value.address.as_ref()?;
                if address.value.port() == 0 {
                    let message = "the port to redirect to is not known: the listener with TLS takes a free one";
                    let error = Diagnostic::error(redirect.origin, message).also(address.origin, "takes a free port");
                    self.report(error.help("name the port that clients use: `https_redirect = 443`"));
                    return None;
                }
                Some(address.value.port())
            }
        }
    }

    fn protocols(&mut self, listen: &file::Listen, tls: bool) -> Protocols {
        let Some(list) = &listen.protocols else { return Protocols { h1: true, h2: tls } };
        let has = |wanted| list.value.iter().any(|protocol| protocol.value == wanted);
        let protocols = Protocols { h1: has(Protocol::H1), h2: has(Protocol::H2) };
        if list.value.is_empty() && !list.tainted {
            let error = Diagnostic::error(list.origin, "a listener speaks at least one protocol");
            self.report(error.label("expected \"h1\", \"h2\" or both"));
        }
        protocols
    }

    fn duplicate_addresses(&mut self, file: &File) {
        let listeners = file.listen.value.iter().filter_map(|listen| listen.value.address.as_ref());
        let admin = file.admin.as_ref().map(|admin| &admin.value.address);
        let mut seen: Vec<&Setting<SocketAddr>> = Vec::new();
        for address in listeners.chain(admin) {
            // Port 0 is another port each time.
            let same = seen.iter().find(|seen| seen.value == address.value && address.value.port() != 0);
            if let Some(first) = same {
                let message = format!("{} is listened on twice", address.value);
                self.report(
                    Diagnostic::error(address.origin, message).label("again here").also(first.origin, "first here"),
                );
            }
            seen.push(address);
        }
    }

    pub(super) fn certificates(&mut self, sections: &List<file::Certificate>) -> Vec<Certificate> {
        let mut seen: HashMap<&HostPattern, Origin> = HashMap::new();
        for host in sections.iter().filter_map(|section| section.value.hosts.as_ref()).flat_map(|hosts| &hosts.value) {
            let first = *seen.entry(&host.value).or_insert(host.origin);
            if first != host.origin {
                let message = format!("two certificates for {}", host.value);
                self.report(Diagnostic::error(host.origin, message).label("again here").also(first, "first here"));
            }
        }
        sections.iter().filter_map(|section| self.certificate(section)).collect()
    }

    fn certificate(&mut self, setting: &Setting<file::Certificate>) -> Option<Certificate> {
        let section = &setting.value;
        let file = section.certificate.as_ref().or(section.key.as_ref());
        let source = match (section.local.value, &section.certificate, &section.key) {
            (true, None, None) => CertificateSource::Local,
            (true, _, _) => {
                let error =
                    Diagnostic::error(section.local.origin, "a certificate is either made here or read from files");
                let also = file.map_or(setting.origin, |file| file.origin);
                self.report(error.label("made here").also(also, "read from a file"));
                return None;
            }
            (false, Some(certificate), Some(key)) => {
                CertificateSource::Files { certificate: self.readable(certificate).0, key: self.readable(key).0 }
            }
            (false, certificate, _) => {
                if !setting.tainted {
                    let missing = match (certificate, file) {
                        (_, None) => "a certificate needs `certificate` and `key`, or `local = true`",
                        (None, _) => "`key` without `certificate`",
                        (Some(_), _) => "`certificate` without `key`",
                    };
                    let place = file.map_or(setting.origin, |file| file.origin);
                    self.report(Diagnostic::error(place, missing));
                }
                return None;
            }
        };
        let hosts = section.hosts.as_ref()?;
        if hosts.value.is_empty() && !hosts.tainted {
            self.report(Diagnostic::error(hosts.origin, "a certificate is for at least one host"));
        }
        Some(Certificate { hosts: hosts.value.iter().map(|host| host.value.clone()).collect(), source })
    }
}

fn tls(listen: &file::Listen) -> Option<(ListenTls, Origin)> {
    let setting = listen.tls.as_ref()?;
    let tls = setting.value.0.as_ref()?;
    Some((ListenTls { min: tls.min.value }, setting.origin))
}

fn hsts_value(hsts: &file::Hsts) -> Option<HeaderValue> {
    let subdomains = if hsts.include_subdomains.value { "; includeSubDomains" } else { "" };
    HeaderValue::try_from(format!("max-age={}{subdomains}", hsts.max_age.value.as_secs())).ok()
}
