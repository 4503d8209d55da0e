//! A point in time as text: RFC 3339 for lines and messages, IMF-fixdate for HTTP.

use std::time::SystemTime;

use time::OffsetDateTime;

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
    let latest = OffsetDateTime::new_utc(time::Date::MAX, time::Time::MAX);
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
