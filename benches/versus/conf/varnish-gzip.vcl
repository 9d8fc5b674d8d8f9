# Part of varnish.vcl where responses are compressed, at level 6 by default. What is stored is stored compressed.
sub vcl_backend_response {
    if (beresp.http.Content-Type == "application/json") {
        set beresp.do_gzip = true;
    }
}
