"""A pseudonym says nothing without its key."""

from shared.pseudonyms import pseudonym

UID = "1.2.840.113619.2.5.1762583153"


def test_same_key_and_identifier_give_the_same_pseudonym() -> None:
    assert pseudonym(b"k" * 32, UID) == pseudonym(b"k" * 32, UID)


def test_another_key_or_identifier_gives_another() -> None:
    assert len({pseudonym(b"k" * 32, UID), pseudonym(b"l" * 32, UID), pseudonym(b"k" * 32, UID + "1")}) == 3


def test_it_is_hmac_sha_256_of_rfc_4231() -> None:
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert pseudonym(b"Jefe", "what do ya want for nothing?") == expected
