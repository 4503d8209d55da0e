//! A point in time as text: RFC 3339 for lines and messages, IMF-fixdate for HTTP; and RFC 3339 read again.

use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime, Time};

/// Length of the text of [`rfc3339`] in bytes.
pub const RFC3339_LENGTH: usize = 30;

const WEEKDAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `2026-11-20T21:34:38.123456789Z`: RFC 3339 in UTC with nine digits of the second's fraction, always 30 bytes. A
/// clock before 1970 gives the beginning of 1970, one past 9999 the end of 9999.
pub fn rfc3339(time: SystemTime) -> [u8; RFC3339_LENGTH] {
    let time = utc(time);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    digits(&mut text, 0, 4, time.year().unsigned_abs());
    digits(&mut text, 5, 2, u32::from(u8::from(time.month())));
    digits(&mut text, 8, 2, u32::from(time.day()));
    digits(&mut text, 11, 2, u32::from(time.hour()));
    digits(&mut text, 14, 2, u32::from(time.minute()));
    digits(&mut text, 17, 2, u32::from(time.second()));
    digits(&mut text, 20, 9, time.nanosecond());
    text
}

/// Reads RFC 3339's `date-time` as Go and Kubernetes write it: `2026-11-20T21:34:38Z`, with any number of digits behind a
/// point and with `Z` or an offset such as `+01:00`. None for anything else, and for times before 1970.
pub fn parse(text: &[u8]) -> Option<SystemTime> {
    let (date_time, rest) = text.split_at_checked("2026-11-20T21:34:38".len())?;
    let number = |from: usize, to: usize| -> Option<u16> { decimal(date_time.get(from..to)?) };
    let small = |from: usize| -> Option<u8> { u8::try_from(number(from, from + 2)?).ok() };
    let separators = [4, 7, 10, 13, 16].map(|at| date_time.get(at).copied());
    if separators != b"--T::".map(Some) {
        return None;
    }
    // A leap second, 60, is read as the second before it.
    let second = if small(17)? == 60 { 59 } else { small(17)? };
    let seconds = unix_seconds(number(0, 4)?, [small(5)?, small(8)?, small(11)?, small(14)?, second])?;

    let fraction = rest.strip_prefix(b".").unwrap_or_default();
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (zone, nanoseconds) = match digits {
        0 => (rest, 0),
        _ => (fraction.get(digits..)?, nanoseconds(fraction.get(..digits)?)),
    };
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let minutes = i64::from(decimal(&[*h1, *h2])?) * 60 + i64::from(decimal(&[*m1, *m2])?);
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    let since_epoch = Duration::new(u64::try_from(seconds - offset).ok()?, nanoseconds);
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

/// Seconds since the Unix epoch at a month, day, hour, minute and second of a year, in UTC. `None` where there is no such
/// time.
pub(crate) fn unix_seconds(year: u16, [month, day, hour, minute, second]: [u8; 5]) -> Option<i64> {
    let date = Date::from_calendar_date(i32::from(year), Month::try_from(month).ok()?, day).ok()?;
    Some(date.with_time(Time::from_hms(hour, minute, second).ok()?).assume_utc().unix_timestamp())
}

/// The number that these digits say.
pub(crate) fn decimal(digits: &[u8]) -> Option<u16> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()
}

/// The digits behind a decimal point; those past the ninth are cut off.
fn nanoseconds(digits: &[u8]) -> u32 {
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    padded.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

/// `Fri, 20 Nov 2026 21:34:38 GMT`: the IMF-fixdate of RFC 9110, section 5.6.7.
pub fn http_date(time: SystemTime) -> [u8; 29] {
    let time = utc(time);
    let mut text = *b"Mon, 00 Jan 0000 00:00:00 GMT";
    letters(&mut text, 0, &WEEKDAYS, time.weekday().number_days_from_monday());
    letters(&mut text, 8, &MONTHS, u8::from(time.month()) - 1);
    digits(&mut text, 5, 2, u32::from(time.day()));
    digits(&mut text, 12, 4, time.year().unsigned_abs());
    digits(&mut text, 17, 2, u32::from(time.hour()));
    digits(&mut text, 20, 2, u32::from(time.minute()));
    digits(&mut text, 23, 2, u32::from(time.second()));
    text
}

fn utc(time: SystemTime) -> OffsetDateTime {
    let nanos = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let latest = OffsetDateTime::new_utc(Date::MAX, Time::MAX);
    i128::try_from(nanos).ok().and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()).unwrap_or(latest)
}

/// Writes the last `width` decimal digits of `value` at `at`.
fn digits(text: &mut [u8], at: usize, width: usize, mut value: u32) {
    for digit in text.iter_mut().skip(at).take(width).rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Writes the name with this number, counted from 0, at `at`.
fn letters(text: &mut [u8], at: usize, names: &[&[u8; 3]], number: u8) {
    let name = names.get(usize::from(number)).copied().unwrap_or(b"???");
    text.iter_mut().skip(at).zip(name).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(time: SystemTime) -> String {
        String::from_utf8(rfc3339(time).to_vec()).unwrap()
    }

    #[test]
    fn nine_digits_and_z_even_where_the_fraction_is_zero() {
        assert_eq!(text(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_795_210_478, 123_456_789);
        assert_eq!(text(time), "2026-11-20T21:34:38.123456789Z");
    }

    #[test]
    fn a_time_is_read_with_any_number_of_digits_and_any_offset() {
        let since_epoch = |text: &str| parse(text.as_bytes()).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since_epoch("2026-11-20T21:34:38.123456789Z"), Duration::new(1_795_210_478, 123_456_789));
        assert_eq!(since_epoch("2026-11-20T21:34:38Z"), Duration::new(1_795_210_478, 0));
        assert_eq!(since_epoch("2026-11-20T21:34:38.5Z"), Duration::new(1_795_210_478, 500_000_000));
        assert_eq!(since_epoch("2026-11-20T21:34:38.0000000019Z"), Duration::new(1_795_210_478, 1));
        assert_eq!(since_epoch("2026-11-20T22:34:38+01:00"), Duration::new(1_795_210_478, 0));
        assert_eq!(since_epoch("2026-11-20T16:04:38.1-05:30"), Duration::new(1_795_210_478, 100_000_000));
        assert_eq!(since_epoch("2016-12-31T23:59:60Z"), Duration::new(1_483_228_799, 0));
    }

    #[test]
    fn what_is_no_rfc_3339_is_no_time() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T21:34:38",
            "2026-11-20 21:34:38Z",
            "2026-11-20T21:34:38.Z",
            "2026-11-20T21:34:38.1",
            "2026-11-20T21:34:38ZZ",
            "2026-11-20T21:34:38+0100",
            "2026-11-20T21:34:38+1:00",
            "2026-13-20T21:34:38Z",
            "2026-02-29T21:34:38Z",
            "2026-11-20T24:34:38Z",
            "2026-11-20T21:60:38Z",
            "2026-11-20T21:34:61Z",
            "+026-11-20T21:34:38Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_http_date_names_weekday_and_month() {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(http_date(time(1_795_210_478)), *b"Fri, 20 Nov 2026 21:34:38 GMT");
        assert_eq!(http_date(time(1_798_675_199)), *b"Wed, 30 Dec 2026 23:59:59 GMT");
        assert_eq!(http_date(time(1_798_934_400)), *b"Sun, 03 Jan 2027 00:00:00 GMT");
    }

    #[test]
    fn a_clock_before_1970_or_past_9999_gives_the_end_of_the_range() {
        assert_eq!(text(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40)), "9999-12-31T23:59:59.999999999Z");
    }
}
