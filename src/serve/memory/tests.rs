use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;

const MIB: usize = 1024 * 1024;

fn memory(budget: usize) -> Memory {
    Memory::new(budget, Arc::new(Metrics::new()))
}

/// A connection on which a body is arriving; its other end is kept.
struct Sender {
    connection: Arc<Connection>,
    _other: TcpStream,
}

impl Sender {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        let connection = Arc::new(Connection::new(socket, peer, None).unwrap());
        connection.await_request();
        connection.begin_body();
        Self { connection, _other: other }
    }

    /// Its body is complete: nobody can make it give way.
    fn complete() -> Self {
        let sender = Self::new();
        sender.connection.complete();
        sender
    }

    fn need(&self, size: usize, patience: Duration) -> Need<'_> {
        let deadline = Instant::now() + patience;
        Need { connection: &self.connection, announced: Some(size), body: size, deadline }
    }
}

/// The first MiB of a body of two, and its memory.
fn half_held<'m>(memory: &'m Memory, sender: &Sender) -> Body<'m> {
    let mut held = memory.large();
    held.reserve(MIB, &sender.need(2 * MIB, NOW)).unwrap();
    held
}

const LONG: Duration = Duration::from_secs(20);
const NOW: Duration = Duration::ZERO;

#[test]
fn a_small_body_has_its_room_whatever_large_ones_hold() {
    let (memory, sender) = (memory(MIB), Sender::complete());
    let mut all = memory.large();
    all.reserve(MIB, &sender.need(MIB, NOW)).unwrap();
    let other = Sender::new();
    memory.small().reserve(SMALL, &other.need(SMALL, NOW)).unwrap();
}

#[test]
fn a_body_is_charged_for_what_has_arrived_and_not_for_what_was_announced() {
    let memory = memory(4 * MIB);
    let senders: Vec<Sender> = (0..16).map(|_| Sender::new()).collect();
    let mut bodies = Vec::new();
    for sender in &senders {
        let mut body = memory.large();
        body.reserve(100_000, &sender.need(2 * MIB, NOW)).unwrap();
        bodies.push(body);
    }
    assert_eq!(memory.lock().charged(), 1_600_000);
    drop(bodies);
    assert_eq!(memory.lock().charged(), 0);
}

#[test]
fn a_body_whose_size_was_announced_is_not_moved_as_it_grows() {
    let (memory, sender) = (memory(4 * MIB), Sender::new());
    let mut body = memory.large();
    body.reserve(100_000, &sender.need(2 * MIB, NOW)).unwrap();
    let begins = body.bytes.as_ptr();
    body.bytes.resize(100_000, b' ');
    body.reserve(2 * MIB, &sender.need(2 * MIB, NOW)).unwrap();
    assert_eq!(body.bytes.as_ptr(), begins);
}

#[test]
fn what_is_announced_takes_no_more_addresses_than_twice_the_budget() {
    let memory = memory(4 * MIB);
    let senders: Vec<Sender> = (0..10).map(|_| Sender::new()).collect();
    let bodies = senders.iter().map(|sender| {
        let mut body = memory.large();
        body.reserve(100_000, &sender.need(3 * MIB, NOW)).unwrap();
        body
    });
    let bodies: Vec<Body<'_>> = bodies.collect();
    let addresses: usize = bodies.iter().map(|body| body.bytes.capacity()).sum();
    assert!(addresses <= 8 * MIB + 10 * (100_000 + ROOM), "{addresses}");
}

#[test]
fn two_bodies_of_half_the_budget_fit_it_exactly_and_a_third_does_not() {
    let memory = memory(4 * MIB);
    let senders = [Sender::complete(), Sender::complete(), Sender::complete()];
    let mut bodies = [memory.large(), memory.large(), memory.large()];
    bodies[0].reserve(2 * MIB, &senders[0].need(2 * MIB, NOW)).unwrap();
    bodies[1].reserve(2 * MIB, &senders[1].need(2 * MIB, NOW)).unwrap();
    let third = bodies[2].reserve(MIB, &senders[2].need(MIB, NOW));
    assert_eq!(third, Err(NoMemory::NotInTime));
}

#[test]
fn a_body_larger_than_the_budget_is_received_alone() {
    let memory = memory(MIB);
    let (giant, other) = (Sender::complete(), Sender::complete());
    let mut body = memory.large();
    for step in 1..=5 {
        body.reserve(step * MIB, &giant.need(5 * MIB, NOW)).unwrap();
    }
    assert_eq!(memory.large().reserve(100_000, &other.need(100_000, NOW)), Err(NoMemory::NotInTime));
    drop(body);
    memory.large().reserve(100_000, &other.need(100_000, NOW)).unwrap();
}

/// All bodies grow at the same time: without the rule of `is_safe` all would be half-read and wait for each other.
#[test]
fn bodies_that_grow_side_by_side_past_the_budget_all_end_though_none_gives_way() {
    let memory = memory(4 * MIB);
    thread::scope(|scope| {
        for _ in 0..16 {
            let memory = &memory;
            scope.spawn(move || {
                // Nobody can make it give way.
                let (sender, size) = (Sender::complete(), 3 * MIB);
                let mut body = memory.large();
                for step in 1..=30 {
                    body.reserve(step * size / 30, &sender.need(size, LONG)).unwrap();
                    thread::yield_now();
                }
            });
        }
    });
    assert_eq!(memory.lock().charged(), 0);
}

#[test]
fn while_one_waits_the_one_whose_bytes_stand_still_gives_way() {
    let memory = memory(2 * MIB);
    let (slow, honest) = (Sender::new(), Sender::new());
    let held = half_held(&memory, &slow);
    thread::scope(|scope| {
        scope.spawn(|| leave_when_told(&slow, held));
        let began = Instant::now();
        memory.large().reserve(MIB + MIB / 2, &honest.need(MIB + MIB / 2, LONG)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
    assert_eq!(honest.connection.standing(), Standing::Open);
}

/// Whoever is told to give way gives its memory back, as its thread would.
fn leave_when_told(sender: &Sender, held: Body<'_>) {
    while sender.connection.standing() != Standing::GivingWay {
        thread::sleep(Duration::from_millis(1));
    }
    drop(held);
}

#[test]
fn the_one_that_received_the_fewest_bytes_lately_gives_way_and_no_other() {
    let memory = memory(3 * MIB);
    let (fast, slow, honest) = (Sender::new(), Sender::new(), Sender::new());
    let [mut first, mut second] = [memory.large(), memory.large()];
    first.reserve(MIB, &fast.need(MIB, NOW)).unwrap();
    second.reserve(MIB, &slow.need(MIB, NOW)).unwrap();
    // It waits for memory itself; nothing is known yet that speaks against it.
    fast.connection.pause();
    thread::scope(|scope| {
        scope.spawn(|| leave_when_told(&slow, second));
        // So that of the slow one it can be told.
        thread::sleep(Duration::from_millis(600));
        memory.large().reserve(2 * MIB, &honest.need(2 * MIB, LONG)).unwrap();
    });
    assert_eq!(fast.connection.standing(), Standing::Open);
}

#[test]
fn a_body_waits_for_its_patience_once_however_often_it_has_to_ask() {
    const STEPS: usize = 24;
    let memory = memory(STEPS * MIB);
    let senders: Vec<Sender> = (0..STEPS).map(|_| Sender::new()).collect();
    let honest = Sender::new();
    thread::scope(|scope| {
        for sender in &senders {
            let mut held = memory.large();
            held.reserve(MIB, &sender.need(MIB, NOW)).unwrap();
            scope.spawn(|| leave_when_told(sender, held));
        }
        let began = Instant::now();
        let mut body = memory.large();
        for step in 1..=STEPS {
            body.reserve(step * MIB, &honest.need(step * MIB, LONG)).unwrap();
        }
        assert!(began.elapsed() < PATIENCE * 20, "{:?}", began.elapsed());
    });
    assert!(senders.iter().all(|sender| sender.connection.standing() == Standing::GivingWay));
}

#[test]
fn nobody_gives_way_while_the_budget_is_used_anew_every_second() {
    let memory = memory(2 * MIB);
    let (slow, honest) = (Sender::new(), Sender::new());
    let held = half_held(&memory, &slow);
    thread::scope(|scope| {
        scope.spawn(|| leave_when_told(&slow, held));
        let began = Instant::now();
        scope.spawn(|| {
            while memory.lock().waiting() == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            // As if other bodies had become complete: enough for a second.
            memory.lock().completed += 2 * MIB;
        });
        memory.large().reserve(MIB + MIB / 2, &honest.need(MIB + MIB / 2, LONG)).unwrap();
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    });
    assert_eq!(slow.connection.standing(), Standing::GivingWay);
}

#[test]
fn a_complete_body_is_waited_for() {
    let memory = memory(2 * MIB);
    let (complete, honest) = (Sender::complete(), Sender::new());
    let mut held = memory.large();
    held.reserve(2 * MIB, &complete.need(2 * MIB, NOW)).unwrap();
    thread::scope(|scope| {
        let (served, order) = mpsc::channel();
        let (memory, honest) = (&memory, &honest);
        scope.spawn(move || {
            memory.large().reserve(MIB, &honest.need(MIB, LONG)).unwrap();
            served.send(()).unwrap();
        });
        while memory.lock().waiting() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        // Past the patience of the one that waits.
        thread::sleep(2 * PATIENCE);
        assert!(order.try_recv().is_err());
        assert_eq!(complete.connection.standing(), Standing::Open);
        drop(held);
        order.recv().unwrap();
    });
}

#[test]
fn what_is_given_back_goes_to_the_body_that_came_first() {
    let memory = memory(2 * MIB);
    let senders = [(); 3].map(|()| Sender::complete());
    let mut held = memory.large();
    held.reserve(2 * MIB, &senders[0].need(2 * MIB, NOW)).unwrap();
    thread::scope(|scope| {
        let (served, order) = mpsc::channel();
        for (at, sender) in senders.iter().enumerate().skip(1) {
            let (memory, served) = (&memory, served.clone());
            scope.spawn(move || {
                let mut body = memory.large();
                body.reserve(MIB + MIB / 2, &sender.need(MIB + MIB / 2, LONG)).unwrap();
                served.send((at, body)).unwrap();
            });
            while memory.lock().waiting() < at {
                thread::sleep(Duration::from_millis(1));
            }
        }
        drop(held);
        let (first, body) = order.recv().unwrap();
        assert_eq!((first, memory.lock().waiting()), (1, 1));
        drop(body);
        assert_eq!(order.recv().unwrap().0, 2);
    });
}

#[test]
fn lines_are_charged_beside_their_body_and_those_of_one_body_are_made_beside_the_budget() {
    let memory = memory(4 * MIB);
    let senders = [Sender::complete(), Sender::complete()];
    let mut bodies = [memory.large(), memory.large()];
    for (body, sender) in bodies.iter_mut().zip(&senders) {
        body.reserve(MIB, &sender.need(MIB, NOW)).unwrap();
    }
    let [mut first, mut second] = bodies;
    first.reserve_lines(2 * MIB, &senders[0].need(MIB, NOW)).unwrap();
    assert_eq!(memory.lock().charged(), 4 * MIB);
    second.reserve_lines(2 * MIB, &senders[1].need(MIB, NOW)).unwrap();
    assert_eq!(memory.lock().charged(), 4 * MIB);
    let mut third = memory.large();
    drop(first);
    third.reserve(2 * MIB, &senders[0].need(2 * MIB, NOW)).unwrap();
    assert_eq!(third.reserve_lines(4 * MIB, &senders[0].need(2 * MIB, NOW)), Err(NoMemory::NotInTime), "one at a time");
    drop(second);
    third.reserve_lines(4 * MIB, &senders[0].need(2 * MIB, NOW)).unwrap();
}

#[test]
fn lines_of_a_list_in_a_small_buffer_are_charged_if_it_is_no_small_list() {
    let (memory, sender) = (memory(MIB), Sender::complete());
    let need = Need { announced: None, ..sender.need(32 * MIB, NOW) };
    let lines_of = |length: usize| {
        let mut body = memory.small();
        body.reserve(length, &need).unwrap();
        body.bytes.resize(length, b' ');
        body.reserve_lines(600_000, &need).map(|()| body)
    };
    let small = lines_of(SMALL_LIST).unwrap();
    assert_eq!(memory.lock().charged(), 0);
    let large = lines_of(SMALL).unwrap();
    assert_eq!(memory.lock().charged(), 600_000);
    let beside = lines_of(SMALL).unwrap();
    assert_eq!(lines_of(SMALL).unwrap_err(), NoMemory::NotInTime);
    drop((small, large, beside));
    assert_eq!(memory.lock().charged(), 0);
}

#[test]
fn buffers_are_used_again_and_given_back_when_nobody_needs_them() {
    let (memory, sender) = (memory(4 * MIB), Sender::complete());
    let take = |size| {
        let mut body = memory.large();
        body.reserve(100_000, &sender.need(size, NOW)).unwrap();
        body.reserve(size, &sender.need(size, NOW)).unwrap();
        body.bytes.as_ptr()
    };
    let first = take(MIB);
    assert_eq!(take(MIB - 1000), first);
    memory.trim();
    assert_eq!(memory.lock().large.len(), 1, "used since the last trim");
    memory.trim();
    assert!(memory.lock().large.is_empty());
}

#[test]
fn granted_and_spare_bytes_stay_under_the_budget_together() {
    let memory = memory(4 * MIB);
    let sender = Sender::complete();
    let take = |size| {
        let mut body = memory.large();
        body.reserve(size, &sender.need(size, NOW)).unwrap();
        body
    };
    drop((take(MIB), take(MIB), take(MIB)));
    let big = take(3 * MIB);
    let state = memory.lock();
    assert!(state.charged() + spare_bytes(&state.large) <= 4 * MIB);
    drop(state);
    drop(big);
}

/// The older one waits for more than there is, the younger one for what there is; nothing is given back.
#[test]
fn a_body_that_presses_has_what_is_left_beside_an_older_one_that_presses() {
    let memory = memory(4 * MIB);
    let [complete, older, younger] = [(); 3].map(|()| Sender::complete());
    let mut held = memory.large();
    held.reserve(2 * MIB, &complete.need(2 * MIB, NOW)).unwrap();
    thread::scope(|scope| {
        let (memory, older, younger) = (&memory, &older, &younger);
        let waits = scope.spawn(move || memory.large().reserve(3 * MIB, &older.need(3 * MIB, LONG)));
        while !memory.lock().claims.iter().any(|claim| claim.presses) {
            thread::sleep(Duration::from_millis(1));
        }
        memory.large().reserve(MIB, &younger.need(MIB, LONG)).unwrap();
        assert!(!waits.is_finished());
        drop(held);
        waits.join().unwrap().unwrap();
    });
}

#[test]
fn what_the_system_refuses_is_told_from_what_is_waited_for_in_vain_and_leaves_no_charge() {
    let more_than_any_system_has = 1 << 60;
    let (memory, sender) = (memory(more_than_any_system_has), Sender::complete());
    let refused = memory.large().reserve(100_000, &sender.need(more_than_any_system_has, NOW));
    assert_eq!(refused, Err(NoMemory::Refused));
    assert_eq!(memory.lock().charged(), 0);
    memory.large().reserve(100_000, &sender.need(MIB, NOW)).unwrap();
}
