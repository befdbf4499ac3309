//! /etc/passwd, read by ourselves: the C library would load what an image names in nsswitch.conf.

/// The home directory of `uid`: that of the first entry with it.
#[must_use]
pub fn home(text: &[u8], uid: u32) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let found = std::str::from_utf8(fields.nth(2)?).ok()?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (found == uid && !home.is_empty() && !home.contains(&0)).then_some(home)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_good_and_bad() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n# no entry\nx:x:7\nbad:x:y:0::/y:\n\
            a:x:1000:1000::/home/a:/bin/sh\nb:x:1000:1::/home/b:\nnul:x:5:5::/\0:\nlast:x:8:8::/l";
        let cases: [(u32, Option<&[u8]>); 6] = [
            (0, Some(b"/root")),
            (1000, Some(b"/home/a")),
            (7, None),
            (5, None),
            (8, Some(b"/l")),
            (99, None),
        ];
        for (uid, expected) in cases {
            assert_eq!(home(text, uid), expected, "{uid}");
        }
    }
}
