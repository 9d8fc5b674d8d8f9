use std::net::{IpAddr, Ipv4Addr};

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::task::LocalSet;

use super::*;
use crate::admin::testing::{FakeProcess, desk, rules};
use crate::telemetry::metrics::RouteTotals;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PEER: Via = Via::Tcp { peer: LOCAL, local: LOCAL };

fn joined(desk: &Desk<FakeProcess>) -> Answer {
    desk.live.join(&*desk.process, &desk.rules(), PEER)
}

/// The name and the data of what came; None at the end.
async fn next(answer: &mut Answer) -> Option<(String, Value)> {
    let frame = answer.body_mut().frame().await?.unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    assert!(data.ends_with("\n\n") && data.matches('\n').count() == 2, "{text}");
    Some((name.to_owned(), serde_json::from_str(data).unwrap()))
}

/// Waits for the next event of this name, past others.
async fn next_of(answer: &mut Answer, wanted: &str) -> Value {
    loop {
        let (name, data) = next(answer).await.unwrap();
        if name == wanted {
            return data;
        }
    }
}

fn requests(count: u64) -> RouteTotals {
    let mut totals = RouteTotals::default();
    totals.ranges[3] = count;
    totals
}

/// On a clock that goes on when all wait, beside the sampler.
async fn beside_the_sampler(test: impl AsyncFnOnce(&Desk<FakeProcess>)) {
    let desk = Rc::new(desk(FakeProcess::default()));
    LocalSet::new()
        .run_until(async {
            let sampling = tokio::task::spawn_local(run(Rc::clone(&desk)));
            tokio::task::yield_now().await;
            test(&desk).await;
            sampling.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_page_is_sent_what_was_and_then_what_is() {
    beside_the_sampler(async |desk| {
        desk.process.routes.borrow_mut().insert("/".to_owned(), requests(5));
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        let mut page = joined(desk);
        let (name, samples) = next(&mut page).await.unwrap();
        assert_eq!(name, "samples");
        let rates: Vec<_> = samples.as_array().unwrap().iter().map(|sample| sample["rate"].clone()).collect();
        assert_eq!(rates, [1.0, 0.0]);
        let (name, state) = next(&mut page).await.unwrap();
        assert_eq!(name, "state");
        assert_eq!((&state["status"]["status"], &state["control"]), (&"healthy".into(), &"token".into()));
        assert_eq!(next(&mut page).await.unwrap().0, "limits");
        desk.process.routes.borrow_mut().insert("/".to_owned(), requests(7));
        let state = next_of(&mut page, "state").await;
        assert_eq!((&state["sample"]["rate"], &state["sample"]["connections"]), (&2.0.into(), &3.into()));
        assert_eq!(state["routes"]["shown"][0]["route"], "/");
        assert_eq!(state["routes"]["shown"][0]["rate"], 0.64, "7 in 11 s");
    })
    .await;
}

async fn tables(desk: &Desk<FakeProcess>) -> Value {
    let answer = desk.live.tables(&*desk.process, &desk.rules()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_asks_once_is_told_what_pages_are() {
    beside_the_sampler(async |desk| {
        desk.process.routes.borrow_mut().insert("/".to_owned(), requests(5));
        let mut page = joined(desk);
        let state = next_of(&mut page, "state").await;
        let mut told = tables(desk).await;
        assert_eq!(told.as_object_mut().unwrap().remove("limits"), Some(Value::Array(Vec::new())));
        assert_eq!(told, state);
        assert!(next_of(&mut page, "state").await["routes"]["shown"][0]["requests"] == 5);
    })
    .await;
}

/// Without a page a sample is taken every five seconds; who asks is told of what came since.
#[tokio::test(start_paused = true)]
async fn who_asks_is_told_of_the_last_second_and_no_sample_is_of_less() {
    beside_the_sampler(async |desk| {
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        desk.process.routes.borrow_mut().insert("/".to_owned(), requests(7));
        assert_eq!(tables(desk).await["routes"]["total"], 0);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let told = tables(desk).await;
        assert_eq!((&told["sample"]["rate"], &told["routes"]["shown"][0]["requests"]), (&3.5.into(), &7.into()));
        assert_eq!(told["routes"]["window_s"], 7.0);
        desk.process.routes.borrow_mut().insert("/".to_owned(), requests(9));
        let asked = Duration::from_millis(10);
        for _ in 0..20 {
            tokio::time::sleep(asked).await;
            assert_eq!(tables(desk).await["routes"]["shown"][0]["requests"], 7);
        }
        assert_eq!(desk.live.sampler.borrow().samples().len(), 2);
    })
    .await;
}

/// What comes from outside is data within JSON, whatever it looks like.
#[tokio::test(start_paused = true)]
async fn hostile_names_stay_data() {
    let name = "</script>\n\nevent: state\ndata: {}\u{2028}<img src=x onerror=alert(1)>";
    beside_the_sampler(async |desk| {
        desk.process.routes.borrow_mut().insert(name.to_owned(), requests(5));
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        let mut page = joined(desk);
        let state = next_of(&mut page, "state").await;
        assert_eq!(state["routes"]["shown"][0]["route"], name);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_are_made_once_and_only_while_a_page_is_open() {
    beside_the_sampler(async |desk| {
        let made = || desk.process.glances.get();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(made(), 0);
        let (one, other) = (joined(desk), joined(desk));
        assert_eq!(made(), 1);
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        assert_eq!(made(), 2);
        drop((one, other));
        tokio::time::sleep(10 * SAMPLE_INTERVAL).await;
        // It is noticed when there is something to send.
        assert_eq!(made(), 3);
        assert!(desk.live.kept.borrow().limits.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn new_rules_and_the_end_of_the_process_end_the_events() {
    beside_the_sampler(async |desk| {
        let to_end = async |mut page: Answer| while next(&mut page).await.is_some() {};
        let page = joined(desk);
        desk.process.rules.replace(Some(config::Admin { token: None, ..rules() }));
        to_end(page).await;
        let mut page = joined(desk);
        assert_eq!(next_of(&mut page, "state").await["control"], "socket_only");
        assert_eq!(next_of(&mut page, "state").await["control"], "socket_only");
        desk.process.draining.set(true);
        to_end(page).await;
        assert_eq!(joined(desk).status(), StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn too_many_pages_are_told_so() {
    let desk = desk(FakeProcess::default());
    let mut open = Vec::new();
    let refused = loop {
        match joined(&desk) {
            page if page.status() == StatusCode::OK => open.push(page),
            refused => break refused,
        }
    };
    let body = refused.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
    assert_eq!((open.len(), &body[..]), (8, &b"too many pages are open\n"[..]));
}
