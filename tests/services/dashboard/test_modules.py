"""Modules of the page that are tested alone, in the browser."""

STREAM = """retry: 2000\r\n\r\n: still here\n\nid: 1-1\ndata: {"message": "a: b"}\n\nid: 1-2\ndata: one\ndata:two\n\n\
event: end\rdata: {"status": "failed"}\r\rid: 1-3\ndata: never ended"""


def test_a_stream_says_the_same_however_it_is_cut(client, open_page):
    page = open_page(client.server)
    said = page.evaluate(
        """async (text) => {
            const { Messages } = await import("/static/stream.js");
            const found = new Set();
            for (let first = 0; first <= text.length; first += 1) {
                const told = [];
                const messages = new Messages((message) => told.push(message));
                for (const piece of [text.slice(0, first), ...text.slice(first)]) messages.take(piece);
                found.add(JSON.stringify([told, messages.retry]));
            }
            return [...found].map(JSON.parse);
        }""",
        STREAM,
    )
    assert said == [
        [
            [
                {"id": "1-1", "data": '{"message": "a: b"}'},
                {"id": "1-2", "data": "one\ntwo"},
                {"event": "end", "data": '{"status": "failed"}'},
            ],
            2000,
        ]
    ]


def test_ratios_far_beyond_comparing_are_not_counted(client, open_page):
    page = open_page(client.server)
    module = page.evaluate_handle("import('/static/format.js')")
    said = module.evaluate("(format, ratios) => ratios.map((one) => format.times(one))", [1.0712, 999, 1.82e9])
    assert said == ["1.07 times", "999 times", "more than 1,000 times"]


def test_distances_to_the_best_that_differ_read_differently(client, open_page):
    page = open_page(client.server)
    module = page.evaluate_handle("import('/static/format.js')")
    said = module.evaluate("(format, values) => format.overBest(values)", [0, 0.0342, 0.121, 0.1234, 19, 3e-9, None])
    assert said == ["the best", "+3.42 %", "+12.1 %", "+12.3 %", "+1,900 %", "+0.0000003 %", "–"]


def test_numbers_are_read_as_people_write_them(client, open_page):
    page = open_page(client.server)
    numbers = {
        "8M": 8_000_000, "3.5 m": 3_500_000, "1.2G": 1_200_000_000, "64k": 64_000, "8,000_000": 8_000_000,
        "1e-3": 0.001, "-5": -5, "0": 0, ".5": 0.5, "many": "many", "8MB": "8MB", "1.2.3": "1.2.3",
    }  # fmt: skip
    read = "async (texts) => texts.map((await import('/static/form/fields.js')).parseNumber)"
    assert dict(zip(numbers, page.evaluate(read, list(numbers)), strict=True)) == numbers
