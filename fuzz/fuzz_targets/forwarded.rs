//! What a stranger sends changes nothing in what an upstream believes about him, and what he sends through
//! a trusted proxy does not choose his address. Input: one field a line.
#![no_main]

mod fields;

use std::net::IpAddr;

use http::{HeaderValue, Version};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use tollgate::client_ip;
use tollgate::header::forwarded::{Hop, address_value, drop_unbelieved, tell};
use tollgate::header::hop_by_hop::{self, Trailers};
use tollgate::header::hop_fields::HopFields;
use tollgate::header::request_id::{self, RequestId};
use tollgate::header::{Scheme, trailers, via};

const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fuzz_target!(|head: &[u8]| {
    let fields = fields::read(head);
    let trusted = [IpNet::from(PROXY)];

    let mut direct = fields.clone();
    let client = client_ip::resolve(&trusted, STRANGER, &direct);
    assert!(client.address == STRANGER && !client.via_trusted);
    let hop = Hop {
        peer_address: STRANGER,
        peer: &address_value(STRANGER),
        client,
        scheme: Scheme::Https,
        host: &HeaderValue::from_static("a.example"),
    };
    let _ = hop_by_hop::remove(&mut direct, Trailers::Drop);
    drop_unbelieved(&mut direct, client.via_trusted);
    let told = HopFields::are_new_to(&direct).then(|| {
        let id = RequestId::fresh(7);
        let mut beside = direct.clone();
        HopFields::new((hop.peer, hop.scheme, hop.host.clone()), Version::HTTP_11, id).insert(&mut beside);
        beside
    });
    tell(&mut direct, &hop);
    if let Some(beside) = told {
        let mut inside = direct.clone();
        via::append(&mut inside, Version::HTTP_11);
        request_id::settle(&mut inside, false, || RequestId::fresh(7));
        assert_eq!(beside, inside, "beside the map or in it");
    }
    assert!(!direct.contains_key("connection"));
    for (name, value) in &direct {
        assert!(!name.as_str().contains('_'));
        match name.as_str() {
            "x-forwarded-for" | "x-real-ip" => assert_eq!(value, "192.0.2.1"),
            "x-forwarded-proto" => assert_eq!(value, "https"),
            "x-forwarded-host" => assert_eq!(value, "a.example"),
            // `x-forwardedby` is a name like any other.
            "x-forwarded" | "forwarded" | "proxy" => panic!("{name} is left"),
            other => assert!(!other.starts_with("x-forwarded-"), "{name} is left"),
        }
    }

    // A trusted proxy adds the address that it saw.
    let mut relayed = fields.clone();
    relayed.append("x-forwarded-for", address_value(STRANGER));
    assert_eq!(client_ip::resolve(&trusted, PROXY, &relayed).address, STRANGER);

    let mut trailing = fields;
    trailers::filter(&mut trailing);
    for name in ["content-length", "transfer-encoding", "host", "authorization", "cookie", "x-forwarded-for"] {
        assert!(!trailing.contains_key(name));
    }
});
