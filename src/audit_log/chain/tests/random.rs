//! The member in any shape, and any sequence of appends, failures and restarts: nothing is called changed.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::format::Point;
use super::*;

fn point() -> impl Strategy<Value = Point> {
    (any::<[u8; 8]>(), 1_u64.., any::<[u8; 32]>()).prop_map(|(id, sequence, hash)| Point {
        id: Id::new(id),
        sequence,
        hash,
    })
}

fn link() -> impl Strategy<Value = Link> {
    let signature = prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| <[u8; 64]>::try_from(bytes).unwrap());
    let mark = prop_oneof![
        Just(Mark::Plain),
        any::<[u8; 32]>().prop_map(Mark::Previous),
        (any::<[u8; 32]>(), signature).prop_map(|(previous, signature)| Mark::Signed(previous, signature)),
    ];
    let origin =
        prop_oneof![Just(None), Just(Some(Origin::Nothing)), point().prop_map(|point| Some(Origin::After(point)))];
    (point(), mark, origin).prop_map(|(point, mark, origin)| Link { point, mark, origin })
}

proptest! {
    #[test]
    fn a_link_is_read_back_as_it_was_written_and_in_no_other_spelling(link in link(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut line = b"{\"a\":\"b\"".to_vec();
        format::push(&mut line, &link);
        prop_assert!(line.len() < 8 + format::LONGEST);
        prop_assert_eq!(line.pop(), Some(b'\n'));
        prop_assert_eq!(format::split(&line), Some((&b"{\"a\":\"b\""[..], link)));
        let at = at.index(line.len());
        line[at] ^= 1_u8 << bit;
        if let Some((content, changed)) = format::split(&line) {
            let same = content == b"{\"a\":\"b\"" && changed == link;
            prop_assert!(!same);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Fail(Call, u32, bool),
    Restart,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop::sample::select(vec![Call::Write, Call::SetLen, Call::Rename, Call::Open, Call::Stat, Call::Sync]);
    prop_oneof![
        4 => (1..6_usize).prop_map(Step::Append),
        2 => (call, 1..4_u32, any::<bool>()).prop_map(|(call, nth, short)| Step::Fail(call, nth, short)),
        1 => Just(Step::Restart),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_fails_and_restarts_nothing_is_called_changed(steps in prop::collection::vec(step(), 1..25), sync in any::<bool>()) {
        let mut place = place();
        place.settings.max_size = 1500;
        place.settings.sync = if sync { SyncMode::Always } else { SyncMode::Never };
        let mut log = Some(place.open());
        let mut number = 0;
        for step in steps {
            match step {
                Step::Append(count) => {
                    let lines: String = (0..count).map(|_| { number += 1; format!("{{\"number\":{number}}}\n") }).collect();
                    let _ = log.as_ref().unwrap().append(lines.as_bytes());
                    place.fs.faults.set(None);
                }
                Step::Fail(call, nth, short) => {
                    place.fs.faults.set(Some(Plan { call: Some(call), nth, times: 2, errno: 5, short }));
                }
                Step::Restart => {
                    place.fs.faults.set(None);
                    drop(log.take());
                    log = Some(place.open());
                }
                Step::Reopen => log.as_ref().unwrap().reopen(),
            }
        }
        place.fs.faults.set(None);
        // So that the last line is acknowledged and its head said.
        let began = Instant::now();
        while log.as_ref().unwrap().append_one(&mut b"{\"last\":1}\n".to_vec()).is_err() {
            prop_assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(log.take());
        // A restart cuts off what is torn.
        drop(place.open());
        let (exit, text) = judged(&place, &["--max-unsigned=100"]);
        prop_assert_eq!(exit, Exit::Ok, "{}", text);
    }
}
