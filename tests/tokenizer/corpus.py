"""Texts that tokenizers get wrong."""

EVERY_BYTE = [chr(byte) for byte in range(256)]

SCRIPTS = [
    "Ünïcödé ﬁ ½ Ⅷ ² ªº ǅ ſ İ",
    "e\u0301 vs \u00e9, n\u0303, \u1100\u1161\u11a8 vs \uac01, a\u0323\u0302",
    "مرحبا بالعالم ١٢٣ \u200f؟",
    "שָׁלוֹם עוֹלָם",
    "ภาษาไทยไม่มีช่องว่าง",
    "हिन्दी भाषा १२३ क्षत्रिय।",
    "தமிழ் বাংলা ქართული አማርኛ",
    "请考试我的软件！12345 「引号」，中文。",
    "こんにちは世界 カタカナ ﾊﾝｶｸ",
    "한국어 문장입니다. 가나다라",
    "Здравствуй, мир! ЁЖ ёж",
    "Ελληνικά ΣΊΣΥΦΟΣ",
    "𝐀𝓑𝕮 𐐀𐐨 𠀀𪜀",
]

EMOJI = [
    "👩\u200d👩\u200d👧\u200d👦 🇨🇭 👍🏽 ❤️ 1️⃣ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "😀" * 30,
    "a😀b😀 c",
    "\u200b\u200d\ufeffzero\u2060width",
    "\ufffd\ufffe\U0010ffff\ud7ff\ue000",
]

SPACES = [
    "",
    " ",
    "  ",
    "   a",
    "a   ",
    "a  b   c    d",
    " " * 100,
    "\n" * 50,
    "\t" * 40 + "x",
    "a" + " " * 300 + "b",
    "tab\tnew\r\nline\r\r\n\n\n  end",
    "   \n  \n x \n",
    "a\u00a0b\u3000c\u2003d\u0085e\u2028f",
    "▁ ▁▁ a▁b",
]

CODE = [
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n\tpass\n",
    '{"a": [1, 2.5e-3, null, true], "b": "\\u00e9"}',
    "for (int i = 0; i < n; ++i) { a[i] += b[i] << 2; } // ok",
    "<html><body class='x'>&amp;</body></html>",
    "SELECT * FROM t WHERE a='b' AND c>=10;",
    "https://example.org/a?b=c&d=%20#e camelCaseHTTPServer snake_case kebab-case",
    "#include <stdio.h>\r\nint main(void) { return 0; }\r\n",
]

WORDS = [
    "Hello, WORLD!! How's it going? I'D we'll THEY'RE don't won't 's 't o'clock ''s",
    "0 00 000 0000 12345 1234567890 3.14159 1,234.56 0x1F 1e-9 ½ ²³",
    "$1,234.56 (50%) #tag @user a_b-c ...!!??",
    "The quick brown fox jumps over the lazy dog. " * 5,
    "a" * 1000,
    "abc" * 300,
    "x" * 99 + " " + "y" * 100 + " " + "z" * 101,
    "\0a\0\0b\x7f",
    "null\0byte",
]

SPECIALS = [
    "<s>a</s>",
    "<|endoftext|>",
    "x <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|>A<|eot_id|> B<|end_of_text|>",
    "<bos><start_of_turn>user\nhi<end_of_turn>\n<eos>",
    "[CLS] a [SEP] b [MASK][PAD]",
    "<|not_a_token|> <|im_end <|im_end|",
    "<unk><pad><0x41><tool_call>x</tool_call>",
    "[INST] hi [/INST]",
]

NASTY = [*EVERY_BYTE, "".join(EVERY_BYTE), *SCRIPTS, *EMOJI, *SPACES, *CODE, *WORDS, *SPECIALS]
"""All of them."""
