fn main() {
    let config = std::env::args().nth(1).unwrap();
    let r = tollgate::server::run(tollgate::server::Options { config: config.into(), ready_fd: None });
    match r {
        Ok(e) => eprintln!("{e:?}"),
        Err(tollgate::server::StartError::Config(d)) => eprintln!("{d}"),
        Err(e) => eprintln!("{e}"),
    }
}
