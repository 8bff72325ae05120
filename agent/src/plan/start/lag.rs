//! Whether a replica that refused is asked again. Values in, values out.
//!
//! What a role may do takes seconds to get around in a cloud, and so does a new bucket's name: a deployment that makes
//! them and starts a container at once meets both (spec/supervisor.md §3.4: three tries in 15 s). Whoever is refused
//! after that is refused for good, and says so while somebody still looks.

use std::time::Duration;

use super::Remote;

/// The pause before attempt number `tried` + 1, `tried` of them having ended so; `None`: that is the answer.
pub fn again(remote: Remote, tried: u32) -> Option<Duration> {
    match remote {
        Remote::Denied | Remote::NoBucket => {
            let pause = PAUSES.get(usize::try_from(tried).ok()?.checked_sub(1)?)?;
            Some(*pause)
        }
        // Each request of the restore has been repeated already, and the supervisor has patience of its own.
        Remote::Unreachable => None,
        Remote::Restorable | Remote::Bare | Remote::Empty | Remote::Broken => None,
    }
}

/// Between three tries; what is left of the 15 s is for their requests.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(9)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_is_asked_three_times_in_fifteen_seconds_and_nothing_else_is() {
        for remote in [
            Remote::Restorable,
            Remote::Empty,
            Remote::Unreachable,
            Remote::Denied,
            Remote::NoBucket,
            Remote::Broken,
        ] {
            let pauses: Vec<_> = (1..100).map_while(|tried| again(remote, tried)).collect();
            let refuses = matches!(remote, Remote::Denied | Remote::NoBucket);
            assert_eq!(pauses.len(), if refuses { 2 } else { 0 }, "{remote:?}");
            assert!(pauses.iter().sum::<Duration>() < Duration::from_secs(15), "{pauses:?}");
        }
        assert_eq!(again(Remote::Denied, 0), None, "nobody has asked");
    }
}
