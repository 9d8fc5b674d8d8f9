//! The request as it goes upstream, made of the one that came.

use http::header::CONTENT_LENGTH;
use http::{Request, Version};

use super::arrival::SentOn;
use super::{Exchange, Passing, Unread};
use crate::balance::Asker;
use crate::body::{Payload, Source};
use crate::config::UpstreamProtocol;
use crate::error::Reason;
use crate::fetch::Outgoing;
use crate::header::etag;
use crate::header::hop_by_hop::{self, Trailers, Upgrade};
use crate::pace::Terms;
use crate::record::Record;
use crate::snapshot::{Pass, Route};

impl Exchange<'_> {
    /// Makes of a request what goes upstream.
    pub(super) async fn send_on(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (outgoing, record): (&mut Outgoing, &mut Record),
    ) -> Result<(), Reason> {
        let SentOn { request_id, beside } = self.arrival().send_on(request, passing)?;
        record.request_id = Some(request_id);
        outgoing.beside = beside;
        if passing.pass.upstream.pool.chooses_by_client() {
            request.extensions_mut().insert(Asker(passing.client.address));
        }
        outgoing.take_head(request);
        match request.body_mut().take() {
            Some(body) => self.take_body(body, passing, (outgoing, record)).await,
            None => Ok(()),
        }
    }

    /// Reads ahead what a slow client would hold an endpoint with; streams pass as they come.
    async fn take_body(
        &self,
        source: Source,
        &Passing { route, pass, ref upgrade, .. }: &Passing<'_>,
        (outgoing, record): (&mut Outgoing, &mut Record),
    ) -> Result<(), Reason> {
        let known_size = source.size_hint().exact();
        let mut source = source.at_most(route.config.body_max).guarded(record.count_received());
        // Over HTTP/1 the connection keeps this limit.
        if !record.is_h1() {
            let client = &self.snapshot.config.client;
            let terms = Terms { silence: client.body_timeout, rate_min: client.rate_min };
            source = source.paced(self.worker.sweep.deadline(), terms, record.answered()).lingering();
        }
        let ahead = known_size.is_some() && upgrade.is_none() && pass.buffer.request > 0;
        let body = if ahead { source.buffer(pass.buffer.request).await? } else { source.into_body() };
        if body.has_trailers() && pass.upstream.config().protocol == UpstreamProtocol::H1 {
            outgoing.head.headers.remove(CONTENT_LENGTH);
        }
        outgoing.payload = Payload::new(body);
        Ok(())
    }
}

/// Takes off a request what ends here; says which upgrade it asks for.
pub fn receive_request<B>(request: &mut Request<B>, route: &Route, pass: &Pass) -> Option<Upgrade> {
    let may_upgrade = request.version() == Version::HTTP_11 && pass.upstream.config().protocol == UpstreamProtocol::H1;
    let fields = request.headers_mut();
    if route.config.compress.is_some() {
        etag::take_off_marks(fields);
    }
    hop_by_hop::remove(fields, Trailers::Forward).filter(|_| may_upgrade)
}
