"""The proxies that are compared, each with what its configuration needs beside the templates in `conf/`."""

from .caddy import Caddy
from .envoy import Envoy
from .h2o import H2o
from .haproxy import Haproxy, HaproxyWheel
from .nginx import (
    Nginx,
    NginxLargeBuffers,
    NginxOpenFiles,
    NginxTcpNopush,
    NginxUnbufferedLog,
    NginxWheel,
    NginxWithoutSendfile,
)
from .peer import Peer
from .tollgate import Tollgate, TollgateLimited, TollgateObserved
from .traefik import Traefik
from .varnish import Varnish, VarnishWithoutLog

# Those that `--peer all` means, the one that the others are compared with first.
ALL: tuple[type[Peer], ...] = (Nginx, Tollgate, Haproxy, Varnish, H2o, Caddy, Envoy, Traefik, NginxWheel, HaproxyWheel)
# Those with one setting that is different, to be named one by one.
OTHER_CHOICES: tuple[type[Peer], ...] = (
    NginxUnbufferedLog,
    NginxLargeBuffers,
    NginxWithoutSendfile,
    NginxTcpNopush,
    NginxOpenFiles,
    VarnishWithoutLog,
    TollgateLimited,
    TollgateObserved,
)
PEERS = {peer.name: peer for peer in ALL + OTHER_CHOICES}
