//! What has to be done to come from the replicas that there are to those that are wanted.
//!
//! The plan is made anew after each change of a replica or of the configuration, from what is there and
//! not from what was planned before. This module only decides.

/// Where a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It runs, or is about to, and is not known to answer yet.
    Starting,
    /// It is a member of its upstream.
    Ready,
    /// It has ended and waits to be started again.
    BackingOff,
    /// It is to end for good.
    Stopping,
}

impl Phase {
    /// The name for the status page.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::BackingOff => "backing-off",
            Phase::Stopping => "stopping",
        }
    }
}

/// One replica as the plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub id: u64,
    /// 1 up to the number of replicas.
    pub index: usize,
    /// Whether it has the command that is wanted now.
    pub current: bool,
    pub phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Start { index: usize },
    Retire { id: u64 },
}

/// The steps that can be taken now; the rest follows once these have changed something.
///
/// Each index up to `count` has one replica of the current command. Those of an older command that are
/// ready stay until their successor is ready, and one successor starts at a time, while every other replica
/// is ready: a command that does not work costs no capacity.
pub fn plan(count: usize, replicas: &[Seen]) -> Vec<Step> {
    let lasting = || replicas.iter().filter(|replica| replica.phase != Phase::Stopping);
    let current = |index: usize| lasting().find(|replica| replica.current && replica.index == index);
    let is_replaced = |index| current(index).is_some_and(|successor| successor.phase == Phase::Ready);
    let serves_on = |old: &Seen| old.phase == Phase::Ready && !is_replaced(old.index);

    let mut steps: Vec<Step> = lasting()
        .filter(|replica| replica.index > count || !(replica.current || serves_on(replica)))
        .map(|replica| Step::Retire { id: replica.id })
        .collect();
    let mut may_replace = lasting().filter(|r| r.current && r.index <= count).all(|r| r.phase == Phase::Ready);
    for index in (1..=count).filter(|&index| current(index).is_none()) {
        let has_old = lasting().any(|replica| replica.index == index && serves_on(replica));
        if !has_old || may_replace {
            may_replace = false;
            steps.push(Step::Start { index });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A replica a word: index, `n`ew or `o`ld command, phase (`s`tarting, `r`eady, `b`acking off, `x`
    /// stopping). Its id is its place in the row.
    fn parse(replicas: &str) -> Vec<Seen> {
        let parse = |(id, word): (usize, &str)| {
            let [index, command, phase] = *word.as_bytes() else { panic!("{word}") };
            let phase = match phase {
                b's' => Phase::Starting,
                b'r' => Phase::Ready,
                b'b' => Phase::BackingOff,
                _ => Phase::Stopping,
            };
            Seen { id: id as u64, index: usize::from(index - b'0'), current: command == b'n', phase }
        };
        replicas.split_whitespace().enumerate().map(parse).collect()
    }

    fn show(steps: &[Step]) -> String {
        let show = |step: &Step| match step {
            Step::Start { index } => format!("start {index}"),
            Step::Retire { id } => format!("retire #{id}"),
        };
        steps.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    fn check(count: usize, replicas: &str, expected: &str) {
        assert_eq!(show(&plan(count, &parse(replicas))), expected, "{count} wanted of {replicas:?}");
    }

    #[test]
    fn the_number_of_replicas_is_kept() {
        check(3, "", "start 1, start 2, start 3");
        check(3, "1nr 2ns 3nb", "");
        check(3, "1nr 3nr", "start 2");
        check(4, "1nr 2nr", "start 3, start 4");
        check(1, "1nr 2nr 3nb", "retire #1, retire #2");
        check(0, "1nr 2or 3ob", "retire #0, retire #1, retire #2");
        check(2, "1nx 2nr", "start 1");
        check(0, "1nx", "");
    }

    #[test]
    fn a_changed_command_is_rolled_out_one_by_one() {
        check(3, "1or 2or 3or", "start 1");
        check(3, "1or 2or 3or 1ns", "");
        check(3, "1or 2or 3or 1nb", "");
        check(3, "1or 2or 3or 1nr", "retire #0, start 2");
        check(3, "1ox 2or 3or 1nr 2ns", "");
        check(3, "2or 3or 1nr 2nr", "retire #0, start 3");
        check(3, "3or 1nr 2nr 3nr", "retire #0");
        // A replica of the new command has ended meanwhile: the roll waits for it.
        check(3, "2or 3or 1nb", "");
    }

    #[test]
    fn an_old_replica_that_does_not_serve_is_replaced_at_once() {
        check(2, "1os 2ob", "retire #0, retire #1, start 1, start 2");
        check(3, "1or 2or 3ob", "retire #2, start 1, start 3");
        check(3, "1or 2ob 3or 1ns", "retire #1, start 2");
    }

    #[test]
    fn a_second_change_takes_over() {
        // Back to the first command in the middle of a roll.
        check(2, "1nr 2nr 1os", "retire #2");
        check(2, "2nr 1or", "start 1");
        // On to a third one.
        check(2, "1or 2or 1os", "retire #2, start 1");
        // Fewer and another command: what is too much goes at once.
        check(1, "1or 2or 3or", "retire #1, retire #2, start 1");
        check(3, "1or 2or", "start 1, start 3");
    }

    /// Takes the steps as the supervisor does.
    fn take(steps: &[Step], replicas: &mut Vec<Seen>) {
        for &step in steps {
            match step {
                Step::Start { index } => {
                    let id = replicas.iter().map(|replica| replica.id + 1).max().unwrap_or(0);
                    replicas.push(Seen { id, index, current: true, phase: Phase::Starting });
                }
                Step::Retire { id } => {
                    replicas.iter_mut().filter(|r| r.id == id).for_each(|r| r.phase = Phase::Stopping);
                }
            }
        }
    }

    fn ready(replicas: &[Seen]) -> usize {
        replicas.iter().filter(|replica| replica.phase == Phase::Ready).count()
    }

    proptest! {
        /// From any state: steps taken leave none for now, a roll never takes capacity that is wanted, and
        /// once everything that was started is ready, what is wanted is there.
        #[test]
        fn every_state_leads_to_what_is_wanted(
            count in 0usize..5,
            indices in proptest::collection::vec((any::<bool>(), 0usize..4, any::<bool>()), 0..6),
        ) {
            let phases = [Phase::Starting, Phase::Ready, Phase::BackingOff, Phase::Stopping];
            let mut replicas: Vec<Seen> = indices
                .into_iter()
                .enumerate()
                .map(|(id, (current, phase, _))| Seen { id: id as u64, index: id + 1, current, phase: phases[phase] })
                .collect();
            let serving_before = replicas.iter().filter(|r| r.phase == Phase::Ready && r.index <= count).count();
            for _ in 0..20 {
                let steps = plan(count, &replicas);
                take(&steps, &mut replicas);
                prop_assert!(ready(&replicas) >= serving_before);
                prop_assert_eq!(plan(count, &replicas), []);
                replicas.retain(|replica| replica.phase != Phase::Stopping);
                replicas.iter_mut().for_each(|replica| replica.phase = Phase::Ready);
            }
            let mut left: Vec<_> = replicas.iter().map(|replica| (replica.index, replica.current)).collect();
            left.sort_unstable();
            prop_assert_eq!(left, (1..=count).map(|index| (index, true)).collect::<Vec<_>>());
        }
    }
}
