//! Which replicas are members, while they fail and while the configuration changes.

use super::*;
use crate::balance::Pool;
use crate::config::{Environment, parse};

#[test]
fn replicas_are_members_once_they_listen_and_end_with_the_supervisor() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 3)]);
        assert!(pool.now().is_empty());
        supervisor.until(|| !supervisor.pids(Phase::Ready).is_empty()).await;
        assert!(!pool.now().is_empty());
        supervisor.until_ready(3).await;
        let addresses: Vec<_> = supervisor.status().iter().filter_map(|replica| replica.address).collect();
        assert_eq!(pool.now(), addresses);
        for address in addresses {
            TcpStream::connect(address).unwrap();
        }
        let pids = supervisor.pids(Phase::Ready);
        supervisor.stop(TEST_LIMIT).await;
        check_all_gone(&pids);
        supervisor.apply(vec![pool.wanted("app", replica("200"), 1)]);
        assert!(supervisor.status().is_empty(), "nothing starts after the stop");
    });
}

#[test]
fn a_killed_replica_leaves_the_members_at_once_and_is_replaced() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        let killed = supervisor.status().remove(0);
        kill_process(pid(killed.pid.unwrap()), Signal::KILL).unwrap();
        supervisor.until(|| pool.now().len() == 1).await;
        assert!(!pool.now().contains(&killed.address.unwrap()));
        supervisor.until_ready(2).await;
        assert_eq!(pool.now().len(), 2);
        let replaced = supervisor.status().remove(0);
        assert!(replaced.restarts > 0 && replaced.replica == killed.replica, "{replaced:?}");
        check_all_gone(&[killed.pid.unwrap()]);
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_changed_command_replaces_replicas_without_a_gap() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        let old = supervisor.pids(Phase::Ready);
        let told = pool.0.borrow().len();
        supervisor.apply(vec![pool.wanted("app", replica("201"), 2)]);
        supervisor.until(|| supervisor.pids(Phase::Ready).iter().filter(|&pid| !old.contains(pid)).count() == 2).await;
        supervisor.until_ready(2).await;
        assert_eq!(pool.fewest_since(told), 2);
        check_all_gone(&old);
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_replaced_replica_ends_its_requests_first() {
    in_control_thread(|| async {
        let text = "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nrun = { command = [\"app\"] }\n\
                    [[route]]\npath = \"/\"\nupstream = \"app\"\n";
        let config = parse("config.toml", text, &Environment::bare()).unwrap().config;
        let (pool, other) = (Arc::new(Pool::new(&config.upstreams[0], None)), Members::default());
        let wanted = |status, drain_timeout| {
            let (members, known) = (Arc::clone(&pool), Arc::clone(&pool));
            Wanted {
                drain_timeout,
                members: Rc::new(move |ready| members.set_members(0, ready.iter().copied())),
                endpoints: Rc::new(move |address| known.endpoint(address)),
                ..other.wanted("app", replica(status), 1)
            }
        };
        let supervisor = supervisor();
        supervisor.apply(vec![wanted("200", TEST_LIMIT)]);
        supervisor.until_ready(1).await;
        let first = supervisor.pids(Phase::Ready);
        let request = pool.choose(&[], None, clock::now().into_std()).unwrap();
        supervisor.apply(vec![wanted("201", TEST_LIMIT)]);
        supervisor.until(|| supervisor.pids(Phase::Stopping) == first).await;
        // Time passes: another process starts.
        supervisor.apply(vec![wanted("201", TEST_LIMIT), other.wanted("other", replica("200"), 1)]);
        supervisor.until(|| supervisor.pids(Phase::Ready).len() == 2).await;
        assert_eq!(supervisor.pids(Phase::Stopping), first, "it has a request");
        drop(request);
        supervisor.until_ready(2).await;
        check_all_gone(&first);

        let second = pool.members()[0].endpoint.address;
        let _request = pool.choose(&[], None, clock::now().into_std()).unwrap();
        supervisor.apply(vec![wanted("202", Duration::ZERO), other.wanted("other", replica("200"), 1)]);
        supervisor.until(|| pool.endpoint(second).is_none()).await;
        supervisor.until_ready(2).await;
        assert!(supervisor.status().iter().all(|replica| replica.address != Some(second)), "its time is up");
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_command_that_does_not_work_replaces_nothing() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        let old = supervisor.pids(Phase::Ready);
        let told = pool.0.borrow().len();
        for command in [shell("exit 3"), vec!["/nowhere/to/be/found".to_owned()]] {
            supervisor.apply(vec![pool.wanted("app", command, 2)]);
            supervisor.until(|| supervisor.status().iter().any(|replica| replica.restarts == 2)).await;
        }
        // The first command again: its replicas are still there.
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        assert_eq!(supervisor.pids(Phase::Ready), old);
        assert_eq!(pool.fewest_since(told), 2);
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_reload_keeps_grows_shrinks_and_removes() {
    in_control_thread(|| async {
        let (first, second, supervisor) = (Members::default(), Members::default(), supervisor());
        supervisor.apply(vec![first.wanted("app", replica("200"), 1), first.wanted("api", replica("200"), 1)]);
        supervisor.until_ready(2).await;
        let kept = supervisor.status().iter().find(|replica| replica.upstream == "app").unwrap().clone();
        supervisor.apply(vec![second.wanted("app", replica("200"), 2)]);
        assert_eq!(second.now(), [kept.address.unwrap()], "the new members know the old replicas at once");
        supervisor.until_ready(2).await;
        assert_eq!(second.now().len(), 2);
        supervisor.apply(vec![second.wanted("app", replica("200"), 1)]);
        assert_eq!(second.now(), [kept.address.unwrap()], "what is too much is no member any more");
        supervisor.until_ready(1).await;
        assert_eq!(supervisor.pids(Phase::Ready), [kept.pid.unwrap()]);
        supervisor.apply(Vec::new());
        supervisor.until(|| supervisor.status().is_empty()).await;
        check_all_gone(&[kept.pid.unwrap()]);
    });
}

#[test]
fn a_replica_that_fails_its_health_check_is_no_member_and_is_started_again() {
    in_control_thread(|| async {
        let supervisor = with_limits(Limits { ready: Duration::from_millis(500), ..LIMITS });
        let (sick, sound) = (Members::default(), Members::default());
        let wanted = |pool: &Members, name, status| Wanted {
            check: Some(Rc::new(|address| Box::pin(ask(address)))),
            ..pool.wanted(name, replica(status), 1)
        };
        supervisor.apply(vec![wanted(&sick, "sick", "503"), wanted(&sound, "sound", "204")]);
        supervisor.until(|| supervisor.status().iter().any(|replica| replica.restarts == 1)).await;
        assert!(sick.0.borrow().iter().all(Vec::is_empty));
        supervisor.until(|| sound.now().len() == 1).await;
        supervisor.stop(TEST_LIMIT).await;
    });
}
