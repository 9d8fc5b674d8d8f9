# Varnish as a peer where responses are stored or compressed. Beside it lie nginx.conf and tollgate.toml.
# @NAMES@ are filled in by its class in peers/, FEATURES with the parts that a case needs. Varnish's parameters are there too.
vcl 4.1;

backend origin {
    .host = "@ORIGIN_HOST@";
    .port = "@ORIGIN_PORT@";
    .connect_timeout = 5s;
    .first_byte_timeout = 30s;
    .between_bytes_timeout = 30s;
}

@FEATURES@
sub vcl_recv {
    # What the parts above have not taken is not looked for in the store.
    return (pass);
}
