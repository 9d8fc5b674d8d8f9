# Part of varnish.vcl where responses are stored.
sub vcl_recv {
    return (hash);
}

sub vcl_backend_response {
    set beresp.ttl = 300s;
}
