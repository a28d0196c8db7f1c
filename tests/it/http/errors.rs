//! The status of an error.

use mainstem::{
    Error, ErrorKind,
    http::{error_response, status},
};

#[test]
fn each_kind_has_its_status_and_only_what_may_be_repeated_says_when() {
    let cases = [
        (ErrorKind::Closed, 503, true),
        (ErrorKind::Configuration, 500, false),
        (ErrorKind::Conflict, 409, false),
        (ErrorKind::Database, 500, false),
        (ErrorKind::OwnershipLost, 409, false),
        (ErrorKind::Application, 500, false),
        (ErrorKind::InvalidData, 500, false),
        (ErrorKind::InvalidInput, 400, false),
        (ErrorKind::LogDiverged, 412, false),
        (ErrorKind::OutcomeUnknown, 504, false),
        (ErrorKind::Overloaded, 503, true),
        (ErrorKind::ReadOnly, 500, false),
        (ErrorKind::ReplicasUnavailable, 503, true),
        (ErrorKind::Schema, 500, false),
        (ErrorKind::SplitBrain, 503, false),
        (ErrorKind::Timeout, 503, true),
        (ErrorKind::Unavailable, 503, true),
        (ErrorKind::Unproven, 412, false),
    ];
    for (kind, expected, has_retry) in cases {
        let error = Error::new(kind, "secret-host refused").with_node("secret-host:5432");
        assert_eq!(status(&error).as_u16(), expected, "{kind:?}");
        let response = error_response::<String>(&error);
        assert_eq!((response.status().as_u16(), &**response.body()), (expected, ""), "{kind:?}");
        let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(retry, has_retry.then_some("1"), "{kind:?}");
        assert_eq!(response.headers().len(), usize::from(has_retry), "{kind:?}");
    }
}
