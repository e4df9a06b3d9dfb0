// The types that have native code, in the order of ggml's numbers. Included by frame.cpp, inside its namespace.

#define PUNA_ENCODER(type) bool encode_##type(const float *x, const float *weights, int64_t blocks, uint8_t *to);
#define PUNA_DECODER(type) void decode_##type(const uint8_t *from, int64_t blocks, float *to);

PUNA_ENCODER(f32)
PUNA_ENCODER(f16)
PUNA_ENCODER(bf16)
PUNA_ENCODER(q4_0)
PUNA_ENCODER(q4_1)
PUNA_ENCODER(q5_0)
PUNA_ENCODER(q5_1)
PUNA_ENCODER(q8_0)
PUNA_ENCODER(q2_k)
PUNA_ENCODER(q3_k)
PUNA_ENCODER(q4_k)
PUNA_ENCODER(q5_k)
PUNA_ENCODER(q6_k)
PUNA_ENCODER(iq2_xxs)
PUNA_ENCODER(iq2_xs)
PUNA_ENCODER(iq3_xxs)
PUNA_ENCODER(iq1_s)
PUNA_ENCODER(iq4_nl)
PUNA_ENCODER(iq3_s)
PUNA_ENCODER(iq2_s)
PUNA_ENCODER(iq4_xs)
PUNA_ENCODER(iq1_m)
PUNA_ENCODER(tq1_0)
PUNA_ENCODER(tq2_0)
PUNA_ENCODER(mxfp4)
PUNA_ENCODER(nvfp4)
PUNA_ENCODER(q1_0)

PUNA_DECODER(f16)
PUNA_DECODER(bf16)
PUNA_DECODER(q4_0)
PUNA_DECODER(q4_1)
PUNA_DECODER(q5_0)
PUNA_DECODER(q5_1)
PUNA_DECODER(q8_0)
PUNA_DECODER(q2_k)
PUNA_DECODER(q3_k)
PUNA_DECODER(q4_k)
PUNA_DECODER(q5_k)
PUNA_DECODER(q6_k)
PUNA_DECODER(iq2_xxs)
PUNA_DECODER(iq2_xs)
PUNA_DECODER(iq3_xxs)
PUNA_DECODER(iq1_s)
PUNA_DECODER(iq4_nl)
PUNA_DECODER(iq3_s)
PUNA_DECODER(iq2_s)
PUNA_DECODER(iq4_xs)
PUNA_DECODER(iq1_m)
PUNA_DECODER(tq1_0)
PUNA_DECODER(tq2_0)
PUNA_DECODER(mxfp4)
PUNA_DECODER(nvfp4)
PUNA_DECODER(q1_0)
PUNA_DECODER(q8_k)

constexpr Codec codecs[] = {
    // name, weights and bytes of a block, by row, encoder, decoder
    {"F32", 1, 4, false, encode_f32, nullptr},
    {"F16", 1, 2, false, encode_f16, decode_f16},
    {"BF16", 1, 2, false, encode_bf16, decode_bf16},
    {"Q4_0", 32, 18, true, encode_q4_0, decode_q4_0},
    {"Q4_1", 32, 20, true, encode_q4_1, decode_q4_1},
    {"Q5_0", 32, 22, true, encode_q5_0, decode_q5_0},
    {"Q5_1", 32, 24, true, encode_q5_1, decode_q5_1},
    {"Q8_0", 32, 34, false, encode_q8_0, decode_q8_0},
    {"Q2_K", 256, 84, false, encode_q2_k, decode_q2_k},
    {"Q3_K", 256, 110, false, encode_q3_k, decode_q3_k},
    {"Q4_K", 256, 144, false, encode_q4_k, decode_q4_k},
    {"Q5_K", 256, 176, false, encode_q5_k, decode_q5_k},
    {"Q6_K", 256, 210, false, encode_q6_k, decode_q6_k},
    {"IQ2_XXS", 256, 66, false, encode_iq2_xxs, decode_iq2_xxs},
    {"IQ2_XS", 256, 74, false, encode_iq2_xs, decode_iq2_xs},
    {"IQ3_XXS", 256, 98, false, encode_iq3_xxs, decode_iq3_xxs},
    {"IQ1_S", 256, 50, false, encode_iq1_s, decode_iq1_s},
    {"IQ4_NL", 32, 18, false, encode_iq4_nl, decode_iq4_nl},
    {"IQ3_S", 256, 110, false, encode_iq3_s, decode_iq3_s},
    {"IQ2_S", 256, 82, false, encode_iq2_s, decode_iq2_s},
    {"IQ4_XS", 256, 136, false, encode_iq4_xs, decode_iq4_xs},
    {"IQ1_M", 256, 56, false, encode_iq1_m, decode_iq1_m},
    {"TQ1_0", 256, 54, false, encode_tq1_0, decode_tq1_0},
    {"TQ2_0", 256, 66, false, encode_tq2_0, decode_tq2_0},
    {"MXFP4", 32, 17, false, encode_mxfp4, decode_mxfp4, __builtin_inff()},
    {"NVFP4", 64, 36, false, encode_nvfp4, decode_nvfp4},
    {"Q1_0", 128, 18, false, encode_q1_0, decode_q1_0},
    {"Q8_K", 256, 292, false, nullptr, decode_q8_k},
};
