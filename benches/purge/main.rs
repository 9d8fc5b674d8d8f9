//! A purge of a million responses, and what other requests feel of it.
//!
//! Fills the cache of a running Tollgate with responses of one tag, asks for others at a steady rate, purges the tag by
//! `tollgate cache purge`, and prints how long requests took before, while and after. A request counts from when it was
//! due, so what waits behind a slow one counts too.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const FILLING: usize = 32;
/// Connections that ask for what is stored and is not purged.
const HITS: usize = 4;
/// Connections that ask for what is not stored.
const MISSES: usize = 2;
/// Between two requests of a connection.
const PACE: Duration = Duration::from_millis(2);
const QUIET: Duration = Duration::from_secs(5);
const BODY: [u8; 128] = [b'x'; 128];

/// What was measured of one request.
struct Sample {
    due: Instant,
    took: Duration,
    is_hit: bool,
}

/// A program that ends with the bench.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let built = option_env!("CARGO_BIN_EXE_tollgate").map(str::to_owned);
    let program = arguments.next().or(built).ok_or("name the executable")?;
    let entries = arguments.next().map_or(Ok(1_000_000), |entries| entries.parse())?;
    let origin = origin()?;
    let folder = std::env::temp_dir().join(format!("tollgate-purge-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let edge = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = configured(&folder, edge, origin, entries)?;
    let _tollgate = Running(
        Command::new(&program).arg("run").arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?,
    );
    while TcpStream::connect(edge).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    let began = Instant::now();
    fill(edge, entries)?;
    println!("{entries} responses are stored, in {:.0} s", began.elapsed().as_secs_f64());
    for mode in ["--soft", "--hard"] {
        measure(&program, &config, edge, mode)?;
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn configured(folder: &Path, edge: SocketAddr, origin: SocketAddr, entries: u64) -> io::Result<PathBuf> {
    let path = folder.join("config.toml");
    let entries_max = entries + entries / 4 + 1000;
    let text = format!(
        r#"
[server]
workers = 2
reload = "signal"

[log]
level = "error"
access = {{ path = "off" }}

[admin]
address = "127.0.0.1:0"
control = {{ socket = "tollgate.sock" }}

[[listen]]
address = "{edge}"

[upstream.origin]
endpoints = ["{origin}"]

[[route]]
path = "/"
upstream = "origin"
cache = {{}}

[cache]
memory = "4GiB"
entries_max = {entries_max}
"#
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// Serves one answer for all, by a thread for each connection.
fn origin() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || serve(connection));
        }
    });
    Ok(address)
}

fn serve(mut connection: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    loop {
        head.clear();
        if !read_head(&mut connection, &mut head)? {
            return Ok(());
        }
        let tag = if head.starts_with(b"GET /many/") { "many" } else { "few" };
        let fields = format!("cache-control: max-age=3600\r\ncache-tag: {tag}\r\ncontent-length: {}", BODY.len());
        let mut answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").into_bytes();
        answer.extend_from_slice(&BODY);
        connection.write_all(&answer)?;
    }
}

/// False if there is no more of them.
fn read_head(connection: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = connection.read(&mut piece)?;
        if count == 0 {
            return Ok(false);
        }
        head.extend_from_slice(&piece[..count]);
    }
    Ok(true)
}

/// One request and the whole of its answer; says whether it was a hit.
fn ask(connection: &mut TcpStream, path: &str) -> io::Result<bool> {
    connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: bench.test\r\n\r\n").as_bytes())?;
    let mut answer = Vec::with_capacity(1024);
    if !read_head(connection, &mut answer)? || !answer.starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
    }
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
    let mut left = (end + BODY.len()).saturating_sub(answer.len());
    let mut piece = [0; BODY.len()];
    while left > 0 {
        let count = connection.read(&mut piece[..left])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count;
    }
    Ok(answer.windows(12).any(|field| field.eq_ignore_ascii_case(b"x-cache: hit")))
}

fn connect(edge: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect(edge)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(connection)
}

/// What is asked for, one connection at a time for each of the filling threads.
fn fill(edge: SocketAddr, entries: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let filling = (0..FILLING).map(|_| {
        let next = Arc::clone(&next);
        thread::spawn(move || -> io::Result<()> {
            let mut connection = connect(edge)?;
            let mut asked = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= entries {
                    return Ok(());
                }
                ask(&mut connection, &format!("/many/{number}"))?;
                asked += 1;
                if asked % 500 == 0 {
                    // A connection has a bound for its requests.
                    connection = connect(edge)?;
                }
            }
        })
    });
    for thread in filling.collect::<Vec<_>>() {
        thread.join().map_err(|_| "a filling thread panicked")??;
    }
    Ok(())
}

/// Purges while others ask, and prints how long they waited.
fn measure(program: &str, config: &Path, edge: SocketAddr, mode: &str) -> Result<()> {
    let (samples, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let asking: Vec<_> = (0..HITS + MISSES)
        .map(|index| {
            let (samples, is_over, mode) = (Arc::clone(&samples), Arc::clone(&is_over), mode.to_owned());
            thread::spawn(move || -> io::Result<()> {
                let mine = asking(edge, (index, &mode), &is_over)?;
                samples.lock().map_err(|_| io::Error::other("another thread panicked"))?.extend(mine);
                Ok(())
            })
        })
        .collect();
    thread::sleep(QUIET);
    let began = Instant::now();
    let mut purge = Command::new(program);
    purge.args(["cache", "purge", "--tag", "many", "-c"]).arg(config);
    if mode == "--soft" {
        purge.arg(mode);
    }
    let purged = purge.output()?;
    let ended = Instant::now();
    thread::sleep(QUIET);
    is_over.store(true, Ordering::Relaxed);
    for thread in asking {
        thread.join().map_err(|_| "an asking thread panicked")??;
    }
    println!(
        "purge {mode}: {}{} It took {:.2} s, {}.",
        String::from_utf8_lossy(&purged.stdout).trim(),
        String::from_utf8_lossy(&purged.stderr).trim(),
        (ended - began).as_secs_f64(),
        purged.status
    );
    let samples = samples.lock().map_err(|_| "a thread panicked")?;
    for (name, is_in) in [
        ("before", &(|due: Instant| due < began) as &dyn Fn(Instant) -> bool),
        ("while", &|due| due >= began && due <= ended),
        ("after", &|due| due > ended),
    ] {
        for is_hit in [true, false] {
            let took = samples.iter().filter(|sample| sample.is_hit == is_hit && is_in(sample.due));
            print(name, is_hit, took.map(|sample| sample.took).collect());
        }
    }
    Ok(())
}

/// Asks at a steady pace. What is not stored has another path each time.
fn asking(edge: SocketAddr, (index, mode): (usize, &str), is_over: &AtomicBool) -> io::Result<Vec<Sample>> {
    let mut connection = connect(edge)?;
    let (mut samples, is_hit) = (Vec::new(), index < HITS);
    let mut due = Instant::now();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let path = if is_hit { format!("/few/{index}") } else { format!("/few/{index}{mode}/{number}") };
        // The first brings it into the cache.
        if ask(&mut connection, &path)? == is_hit {
            samples.push(Sample { due, took: due.elapsed(), is_hit });
        }
        due += PACE;
        if number % 500 == 499 {
            connection = connect(edge)?;
        }
    }
    Ok(samples)
}

fn print(name: &str, is_hit: bool, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: usize| took.get((took.len() * part / 1000).min(took.len().saturating_sub(1)));
    let ms = |part| at(part).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    let what = if is_hit { "hits" } else { "misses" };
    println!(
        "| {name} | {what} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        took.len(),
        ms(500),
        ms(990),
        ms(999),
        ms(1000)
    );
}
