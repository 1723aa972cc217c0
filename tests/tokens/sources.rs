//! Where a request carries its token.

use envoy_tenancy::jwt::{Presented, presented};
use serde_json::{Value, json};

use crate::{but, jwt, settings};

const MISSING: Presented<'static> = Presented::Missing;
const AMBIGUOUS: Presented<'static> = Presented::Ambiguous;
const MALFORMED: Presented<'static> = Presented::Malformed;

fn token(text: &str) -> Presented<'_> {
    Presented::Token(text.as_bytes())
}

fn check(from: &Value, header: &str, rows: &[(&[&str], Presented<'_>)]) {
    let jwt = jwt(&but(settings(), json!({"from": from}))).unwrap();
    assert_eq!(jwt.from.header(), header);
    for (values, expected) in rows {
        assert_eq!(presented(&jwt.from, values.iter().map(|value| value.as_bytes())), *expected, "{values:?}");
    }
}

#[test]
fn the_authorization_header_holds_one_token_behind_bearer() {
    let rows: [(&[&str], _); 26] = [
        (&[], MISSING),
        (&[""], MISSING),
        (&["Bearer a.b.c"], token("a.b.c")),
        (&["bearer a.b.c"], token("a.b.c")),
        (&["BEARER a.b.c"], token("a.b.c")),
        (&["BeArEr   a.b.c  "], token("a.b.c")),
        (&["Bearer"], MALFORMED),
        (&["Bearer "], MALFORMED),
        (&["Bearer a.b.c d"], MALFORMED),
        (&["Bearer a.b.c, Bearer d.e.f"], AMBIGUOUS),
        (&["Bearer a.b.c,d.e.f"], AMBIGUOUS),
        (&["Basic YTpi,bearer d.e.f"], AMBIGUOUS),
        (&["Digest username=\"x\", realm=\"y\""], MISSING),
        (&["Bearer \"a.b.c\""], MALFORMED),
        (&["Bearer a.b.c\td"], MALFORMED),
        (&["Bearer é"], MALFORMED),
        (&["Bearer\ta.b.c"], MISSING),
        (&["Bearera.b.c"], MISSING),
        (&["Bearer:a.b.c"], MISSING),
        (&["a.b.c"], MISSING),
        (&["Basic dTpw"], MISSING),
        (&["Digest username=\"u\""], MISSING),
        (&["DPoP a.b.c"], MISSING),
        (&["Token a.b.c"], MISSING),
        (&["Bearer a.b.c", "Bearer a.b.c"], AMBIGUOUS),
        (&["Basic dTpw", "Bearer a.b.c"], AMBIGUOUS),
    ];
    check(&Value::Null, "authorization", &rows);
    check(&json!({"header": "Authorization"}), "authorization", &rows);
}

#[test]
fn another_header_holds_a_token_by_itself_or_behind_bearer() {
    let rows: [(&[&str], _); 10] = [
        (&[], MISSING),
        (&[""], MISSING),
        (&["a.b.c"], token("a.b.c")),
        (&[" a.b.c "], token("a.b.c")),
        (&["Bearer a.b.c"], token("a.b.c")),
        (&["bearer"], MALFORMED),
        (&["Basic dTpw"], MALFORMED),
        (&["a.b.c,d.e.f"], AMBIGUOUS),
        (&["a.b.c", "a.b.c"], AMBIGUOUS),
        (&["", "a.b.c"], AMBIGUOUS),
    ];
    check(&json!({"header": "X-Token"}), "x-token", &rows);
}

#[test]
fn a_cookie_holds_a_token() {
    let rows: [(&[&str], _); 15] = [
        (&[], MISSING),
        (&[""], MISSING),
        (&["session=a.b.c"], token("a.b.c")),
        (&["a=1; session=a.b.c; b=2"], token("a.b.c")),
        (&["a=1;session=a.b.c"], token("a.b.c")),
        (&["a=1", "session=a.b.c"], token("a.b.c")),
        (&["session=\"a.b.c\""], token("a.b.c")),
        (&["Session=a.b.c; xsession=a.b.c; session2=a.b.c"], MISSING),
        (&["session"], MISSING),
        (&["session="], MISSING),
        (&["session=Bearer a.b.c"], MALFORMED),
        (&["session=a b"], MALFORMED),
        (&["session=a.b.c; session=a.b.c"], AMBIGUOUS),
        (&["session=a.b.c", "session="], AMBIGUOUS),
        (&["session=a=b"], token("a=b")),
    ];
    check(&json!({"cookie": "session"}), "cookie", &rows);
}

#[test]
fn a_value_that_is_not_text_is_no_token() {
    let jwt = jwt(&settings()).unwrap();
    let present = |value: &'static [u8]| presented(&jwt.from, [value].into_iter());
    assert_eq!(present(b"Bearer \xff\xfe"), MALFORMED);
    assert_eq!(present(b"\xff\xfe"), MISSING);
    assert_eq!(present(b"\xff\xff\xff\xff\xff\xff a"), MISSING);
}
