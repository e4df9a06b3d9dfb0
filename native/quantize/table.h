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

constexpr Codec codecs[] = {
    // name, weights and bytes of a block, by row, encoder, decoder
    {"F32", 1, 4, false, encode_f32, nullptr},
    {"F16", 1, 2, false, encode_f16, nullptr},
    {"BF16", 1, 2, false, encode_bf16, nullptr},
    {"Q4_0", 32, 18, true, encode_q4_0, nullptr},
    {"Q4_1", 32, 20, true, encode_q4_1, nullptr},
    {"Q5_0", 32, 22, true, encode_q5_0, nullptr},
    {"Q5_1", 32, 24, true, encode_q5_1, nullptr},
    {"Q8_0", 32, 34, false, encode_q8_0, nullptr},
    {"Q2_K", 256, 84, false, encode_q2_k, nullptr},
    {"Q3_K", 256, 110, false, encode_q3_k, nullptr},
    {"Q4_K", 256, 144, false, encode_q4_k, nullptr},
    {"Q5_K", 256, 176, false, encode_q5_k, nullptr},
    {"Q6_K", 256, 210, false, encode_q6_k, nullptr},
    {"IQ2_XXS", 256, 66, false, encode_iq2_xxs, nullptr},
    {"IQ2_XS", 256, 74, false, encode_iq2_xs, nullptr},
    {"IQ3_XXS", 256, 98, false, encode_iq3_xxs, nullptr},
    {"IQ1_S", 256, 50, false, encode_iq1_s, nullptr},
    {"IQ4_NL", 32, 18, false, encode_iq4_nl, nullptr},
    {"IQ3_S", 256, 110, false, encode_iq3_s, nullptr},
    {"IQ2_S", 256, 82, false, encode_iq2_s, nullptr},
    {"IQ4_XS", 256, 136, false, encode_iq4_xs, nullptr},
    {"IQ1_M", 256, 56, false, encode_iq1_m, nullptr},
    {"TQ1_0", 256, 54, false, encode_tq1_0, nullptr},
    {"TQ2_0", 256, 66, false, encode_tq2_0, nullptr},
    {"MXFP4", 32, 17, false, encode_mxfp4, nullptr, __builtin_inff()},
    {"NVFP4", 64, 36, false, encode_nvfp4, nullptr},
    {"Q1_0", 128, 18, false, encode_q1_0, nullptr},
};
