//! What counts: counters, gauges and histograms, each safe to use from all threads at once.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
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
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Relaxed);
    }

    /// Sets it to `value` where that is more.
    pub fn raise_to(&self, value: i64) {
        if self.0.load(Relaxed) < value {
            self.0.fetch_max(value, Relaxed);
        }
    }

    /// What it is now.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One counter for each value of a label; the last value stands for all that are not named.
#[derive(Debug)]
pub struct CounterBy<const N: usize> {
    pub(super) label: &'static str,
    series: [(&'static str, Counter); N],
}

impl<const N: usize> CounterBy<N> {
    pub(super) fn new(label: &'static str, values: [&'static str; N]) -> Self {
        Self { label, series: values.map(|value| (value, Counter::default())) }
    }

    /// One more for `value`, or for the last of the set if `value` is not in it.
    pub fn increment(&self, value: &str) {
        self.add(value, 1);
    }

    /// `n` more for `value`, likewise.
    pub fn add(&self, value: &str, n: u64) {
        let named = self.series.iter().find(|(name, _)| *name == value);
        if let Some((_, counter)) = named.or(self.series.last()) {
            counter.add(n);
        }
    }

    /// Each value of the label with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.series.iter().map(|(value, counter)| (*value, counter.value()))
    }
}

/// One gauge for each value of a label.
#[derive(Debug)]
pub struct GaugeBy<const N: usize> {
    series: [(&'static str, Gauge); N],
}

impl<const N: usize> GaugeBy<N> {
    pub(super) fn new(values: [&'static str; N]) -> Self {
        Self { series: values.map(|value| (value, Gauge::default())) }
    }

    /// Adds `delta` to the gauge of `value`, or to the last of the set.
    pub fn add(&self, value: &str, delta: i64) {
        let named = self.series.iter().find(|(name, _)| *name == value);
        if let Some((_, gauge)) = named.or(self.series.last()) {
            gauge.add(delta);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Gauge)> + '_ {
        self.series.iter().map(|(value, gauge)| (*value, gauge))
    }
}

/// Upper bounds of the buckets in nanoseconds, with their text in seconds: 0.1 ms to 10 s.
const BUCKETS: [(u64, &str); 16] = [
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// Durations in buckets from 0.1 ms to 10 s.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    over: AtomicU64,
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS.len()],
            over: AtomicU64::new(0),
            sum_nanos: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().zip(&self.buckets).find(|((bound, _), _)| nanos <= *bound);
        bucket.map_or(&self.over, |(_, bucket)| bucket).fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// Upper bounds in seconds with the observations up to each, then all observations and their sum in seconds. One
    /// that is made meanwhile is counted the next time.
    pub(super) fn cumulative(&self) -> (Vec<(&'static str, u64)>, u64, f64) {
        let mut count = 0;
        let buckets = BUCKETS.iter().zip(&self.buckets).map(|((_, bound), bucket)| {
            count += bucket.load(Relaxed);
            (*bound, count)
        });
        let buckets = buckets.collect();
        let all = count + self.over.load(Relaxed);
        let sum = Duration::from_nanos(self.sum_nanos.load(Relaxed)).as_secs_f64();
        (buckets, all, sum)
    }
}
