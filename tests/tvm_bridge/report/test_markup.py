"""Text becomes no markup, whatever it is."""

from html import unescape
from html.parser import HTMLParser

from hypothesis import example, given
from hypothesis import strategies as st

from tvm_bridge.report.markup import Markup, element, escaped


class Reader(HTMLParser):
    """Collects what it is fed."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@given(text=st.text(max_size=30), value=st.text(max_size=30))
@example(text="<script>alert(1)</script>", value='"><img src=x onerror="alert(1)">')
@example(text="</b>&amp;]]>", value="' onclick='x'")
def test_text_and_attributes_are_read_back_as_they_were(text, value):
    read = Reader(element("b", text, title=value))
    ((tag, attributes),) = read.tags
    assert tag == "b"
    assert read.text == unescape(escaped(text))
    assert attributes == {"title": unescape(escaped(value))}


@given(text=st.text(st.characters(exclude_categories=["C"]), max_size=30))
def test_what_can_be_shown_is_not_changed(text):
    assert unescape(escaped(text)) == text


@given(text=st.text(st.characters(), max_size=30))
@example(text="\ud800 \x00 \u202egnp.exe")
def test_anything_can_be_written_as_utf8(text):
    shown = escaped(text).encode().decode()
    assert not set(shown) & set("\x00\x1b\ud800\u202e")


def test_children_are_flattened_and_nothing_is_left_out():
    assert element("p", "a", None, [Markup("<br>"), ("b", None)], class_="c", data_x=None) == '<p class="c">a<br>b</p>'
