//! Counters, gauges and histograms, each safe to use from all threads at once, and each with its form on the
//! metrics page (Prometheus text exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::labels::Label;

/// A counter, gauge or histogram, as the metrics page shows it.
pub(super) trait Instrument {
    /// The word of the page's TYPE line.
    const TYPE: &'static str;

    /// Appends the lines with the values.
    fn render(&self, name: &str, page: &mut String);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1u64);
    }

    /// `n` more, `u64::MAX` where `n` does not fit.
    pub fn add(&self, n: impl TryInto<u64>) {
        self.0.fetch_add(n.try_into().unwrap_or(u64::MAX), Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it, to `i64::MAX` where `value` does not fit.
    pub fn set(&self, value: impl TryInto<i64>) {
        self.0.store(value.try_into().unwrap_or(i64::MAX), Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Relaxed);
    }

    /// Sets it to `value` where that is more, to `i64::MAX` where `value` does not fit.
    pub fn raise_to(&self, value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX);
        if self.0.load(Relaxed) < value {
            self.0.fetch_max(value, Relaxed);
        }
    }

    /// What it is now.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One instrument for each value of a label.
#[derive(Debug)]
pub struct By<L, I> {
    series: Vec<I>,
    label: PhantomData<L>,
}

/// One counter for each value of a label.
pub type CounterBy<L> = By<L, Counter>;

/// One gauge for each value of a label.
pub type GaugeBy<L> = By<L, Gauge>;

impl<L: Label, I: Default> Default for By<L, I> {
    fn default() -> Self {
        Self { series: L::NAMES.iter().map(|_| I::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> CounterBy<L> {
    /// One more for `label`.
    pub fn increment(&self, label: L) {
        self.add(label, 1u64);
    }

    /// `n` more for `label`, `u64::MAX` where `n` does not fit.
    pub fn add(&self, label: L, n: impl TryInto<u64>) {
        if let Some(counter) = self.series.get(label.index()) {
            counter.add(n);
        }
    }

    /// The count of `label` so far.
    pub fn value(&self, label: L) -> u64 {
        self.series.get(label.index()).map_or(0, Counter::value)
    }
}

impl<L: Label> GaugeBy<L> {
    /// Adds `delta`, which may be negative, to the gauge of `label`.
    pub fn add(&self, label: L, delta: i64) {
        if let Some(gauge) = self.series.get(label.index()) {
            gauge.add(delta);
        }
    }

    /// What the gauge of `label` says now.
    pub fn value(&self, label: L) -> i64 {
        self.series.get(label.index()).map_or(0, Gauge::value)
    }
}

/// One counter for each source that the operator names; the names may change while the program runs.
#[derive(Debug, Default)]
pub struct CounterBySource(Mutex<BTreeMap<String, u64>>);

impl CounterBySource {
    /// The sources from now on. A new one begins at 0; one that is not among them is no series any more.
    pub fn set_names<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts = names.map(|name| (name.to_owned(), counts.get(name).copied().unwrap_or(0))).collect();
    }

    /// One more for `name`, where there is one and it is one of the sources.
    pub fn increment(&self, name: Option<&str>) {
        if let Some(name) = name
            && let Some(count) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name)
        {
            *count += 1;
        }
    }
}

/// Upper bounds of the buckets in microseconds: 0.1 ms to 10 s.
const BUCKETS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Durations in buckets from 0.1 ms to 10 s.
#[derive(Debug, Default)]
pub struct Histogram {
    /// How many durations fell between each bound and the one before it.
    buckets: [AtomicU64; BUCKETS.len()],
    /// Longer than the last bound.
    over: AtomicU64,
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().zip(&self.buckets).find(|(micros, _)| nanos <= **micros * 1_000);
        bucket.map_or(&self.over, |(_, bucket)| bucket).fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }
}

/// Seconds since something last happened, or since the start.
#[derive(Debug)]
pub struct Elapsed(Mutex<Instant>);

impl Default for Elapsed {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Elapsed {
    /// It has just happened.
    pub fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Instrument for Counter {
    const TYPE: &'static str = "counter";

    fn render(&self, name: &str, page: &mut String) {
        let _ = writeln!(page, "{name} {}", self.value());
    }
}

impl Instrument for Gauge {
    const TYPE: &'static str = "gauge";

    fn render(&self, name: &str, page: &mut String) {
        let _ = writeln!(page, "{name} {}", self.value());
    }
}

impl<L: Label, I: Instrument> Instrument for By<L, I> {
    const TYPE: &'static str = I::TYPE;

    fn render(&self, name: &str, page: &mut String) {
        for (value, instrument) in L::NAMES.iter().zip(&self.series) {
            instrument.render(&format!("{name}{{{}=\"{value}\"}}", L::LABEL), page);
        }
    }
}

impl Instrument for CounterBySource {
    const TYPE: &'static str = "counter";

    fn render(&self, name: &str, page: &mut String) {
        for (source, count) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(page, "{name}{{source=\"{source}\"}} {count}");
        }
    }
}

impl Instrument for Histogram {
    const TYPE: &'static str = "histogram";

    /// What is observed while this renders may be in the sum already and in the count only the next time.
    fn render(&self, name: &str, page: &mut String) {
        let mut count = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            count += bucket.load(Relaxed);
            let bound = Duration::from_micros(*bound).as_secs_f64();
            let _ = writeln!(page, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        count += self.over.load(Relaxed);
        let sum = Duration::from_nanos(self.sum_nanos.load(Relaxed)).as_secs_f64();
        let _ = writeln!(page, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

impl Instrument for Elapsed {
    const TYPE: &'static str = "gauge";

    fn render(&self, name: &str, page: &mut String) {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(page, "{name} {:.3}", since.elapsed().as_secs_f64());
    }
}
