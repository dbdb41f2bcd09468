"""Test your own stage: the kit splits its input anywhere, fails, hangs up and cancels, and names the broken rule.

Node: none.
"""

from collections.abc import AsyncIterable, AsyncIterator

import trio

import trioflow as tf
from trioflow.testing import check_transform


@tf.transform
async def words(chunks: AsyncIterable[str]) -> AsyncIterator[str]:
    rest = ""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(" ")
        for word in whole:
            yield word
    yield rest


def hasty_words() -> tf.Transform[str, str]:
    return tf.flat_map(lambda chunk: chunk.split(" "))  # wrong if a word is split between two chunks


async def main() -> None:
    await check_transform(words, ["a bee"], ["a", "bee"], is_stream=True)  # follows all rules: prints nothing
    try:
        await check_transform(hasty_words, ["a bee"], ["a", "bee"], is_stream=True)
    except AssertionError as exc:
        print(exc)


trio.run(main)

# Prints:
# R6: items cut into chunks of length 1, capacity 1: got ['a', '', '', 'b', 'e', 'e'], expected ['a', 'bee']
