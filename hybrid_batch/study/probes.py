"""Texts of many kinds and lengths: what an export must score as torch does, here and wherever it is loaded."""

from __future__ import annotations

from typing import Final

_STORY: Final = (
    "The caravan had been on the road for eleven days when the well at the third crossing turned out to be dry. Nobody "
    "spoke. Then the youngest of the drivers unrolled the map, counted the hills to the east, and asked how far a "
    "thirsty camel walks in one night if it must carry water for two. "
)
_CODE: Final = (
    "def merge(left, right):\n    out = []\n    while left and right:\n"
    "        out.append(left.pop(0) if left[0] <= right[0] else right.pop(0))\n    return out + left + right\n"
)

PROBES: Final = (
    "Hi",
    "2 + 2 = ?",
    "What is the capital of Australia?",
    "Translate to French: the early bird catches the worm.",
    "Write a haiku about a lighthouse in winter.",
    "Is 2,147,483,647 a prime number? Answer yes or no and say why.",
    "A train leaves at 14:05 at 80 km/h, another at 14:35 at 120 km/h on the same track. When do they meet?",
    "Which of these is not a mammal?\nA) whale\nB) bat\nC) penguin\nD) otter\nAnswer with one letter.",
    "Explain the difference between a mutex and a semaphore to a ten-year-old.",
    "Summarize: " + _STORY,
    "Summarize in one sentence:\n\n" + 4 * _STORY,
    "Who is speaking in the last paragraph?\n\n" + 12 * _STORY,
    _CODE,
    "Find the bug in this function and give its complexity.\n\n```python\n" + _CODE + "```",
    "Review the following module.\n\n" + 10 * _CODE,
    "SELECT city, COUNT(*) FROM orders WHERE paid = 0 GROUP BY city HAVING COUNT(*) > 5; -- what does this return?",
    "¿Cuál es la raíz cuadrada de 144, y por qué no es 13?",
    "Объясни, почему небо синее, двумя предложениями.",
    "请用一句话解释相对论。",
    "اشرح كيف تعمل المحركات البخارية.",
    "日本の首都はどこですか。理由も教えてください。",
    "🙂🙃 rate my day: 🌧️☕📚😴",
    "\\int_0^1 x^2 \\, dx = ?",
    "zzzz qqqq xxxx",
    "a " * 400,
    "supercalifragilisticexpialidocious" * 12,
    '{"order": {"id": 4711, "items": [{"sku": "A-1", "n": 3}]}}\nExtract the sku of every item as a JSON list.',
    "I feel that nobody at work listens to me. What should I do?",
    "Classify the sentiment (positive, negative, neutral): The soup was cold but the waiter was very kind.",
    "List three causes of the fall of the Western Roman Empire and rank them.",
    "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies?",
    "Continue the sequence: 1, 1, 2, 3, 5, 8, 13,",
)
