export const RELEASED = {
    "H.1": {
        decoder: { bytes: 11309780, sha256: "98bbf36b70d9969eab5f05c9b2a0da6ee47752047d75b350cb1b601524cad0a6" },
    },
    "H.2": {
        decoder: { bytes: 11309780, sha256: "d79e4c5cd8a89d105c571b33dda511078357e5c14153762ab12f507db893ce32" },
        encoder: { bytes: 10520800, sha256: "e3f5fa0dc286ac80cc1dc4139c84052e98d98c92e9310c7cc742c10f145c0729" },
    },
    "H.3": {
        decoder: { bytes: 11314924, sha256: "8d7df2e22af50942255696cbb4abc58f8167c31e8f880cbcd508d84cb4183103" },
        encoder: { bytes: 10520800, sha256: "b0e77f136cb6b8212bd0dd7b91bb4715726e4b4c80c2a99f508985717f7373a9" },
    },
    "H.4": {
        decoder: { bytes: 7219347, sha256: "683cbf125dc34a4c388edc940284006b3bc6e5c1c3fab36724730637e9ca0689" },
        encoder: { bytes: 4356152, sha256: "64e20f286c2665a750877e26d880b4b19140f56066e2447f25174000bd534577" },
    },
    "H.5": {
        decoder: { bytes: 7239841, sha256: "b51f4edc44806d902da612a8e90fe1a7708000d3d200eb414274e1980763d543" },
        encoder: { bytes: 4351498, sha256: "5ab2287563e751a3d3d5c0a6e36e500513db89d01e60a39d7b333490f93b4824" },
    },
    "H.6": {
        decoder: { bytes: 8889792, sha256: "b91a905b1f787080a2c46a602c8b713b468252f74bed9eb93b62726df9046a33" },
        encoder: { bytes: 4350754, sha256: "5e040c7f1c4d35a30e0cbe4c7f3470f0642bd53183f4c3c95d2360579c0ad090" },
    },
    "I.1": {
        decoder: { bytes: 5296060, sha256: "46741d1ad3b238655c29c2818d6e5313aef831cccc44d3ae6c53b7e802a56943" },
    },
    "I.2": {
        decoder: { bytes: 5296092, sha256: "f67857ea1d95474e1be0204c42be72d477001cac22f4d74270cc8f73fc616535" },
    },
    "I.3": {
        decoder: { bytes: 5296092, sha256: "1762f9b50fd5f9a61c3ebfd4f9424108d1d83d42ea98e2275f9fffd2e0741e87" },
        encoder: { bytes: 4340488, sha256: "d46423b1af0377aabcbb806fb90e5cfbb46e3c1bb7cf7b4058e0e8c5f83b9185" },
    },
    "I.4": {
        decoder: { bytes: 5301236, sha256: "46fb1758131cb4e4e212f9a7fb476891b2025ce74acdee7a6a3569ae198b7aad" },
        encoder: { bytes: 4340488, sha256: "d249e626594bc4900800566fabdf2c8a8b05412ba1bf6598c9877c30b2574b73" },
    },
    "I.5": {
        decoder: { bytes: 3799913, sha256: "1ce2da3d5c0d94d11f15f56ded695970370b7c7a3338c5bfab3d8b770316a5dd" },
        encoder: { bytes: 2776492, sha256: "145b71cea2c46c476747f76c4cd0f3153b911c31f3f8ee1d6c28b06d956d407a" },
    },
    "I.6": {
        decoder: { bytes: 3811433, sha256: "c62c6fa227f68de6ebd9eebaaddbc32b6188221a0532d5cbe5f6aca17b4a5f13" },
        encoder: { bytes: 2773902, sha256: "6318422c34cff542564ea290e56d51f8fed8d8950c90c5bd08b6a3aae08c90b5" },
    },
    "I.7": {
        decoder: { bytes: 4601309, sha256: "94320f67c1780165f389ca9ca2423ad0eb2f2b94d266e0d0fcd317d021d96e1e" },
        encoder: { bytes: 2773926, sha256: "345612955517597ca757b0484845a21774fbf87f26afafb453e0522710fc6c20" },
    },
    "J.1": {
        decoder: { bytes: 2518404, sha256: "1be7ec60ef9f8b8f70158dee37eaa032ab2166b3a28a6c092bbbd9b6cd4f06aa" },
    },
    "J.2": {
        decoder: { bytes: 2518404, sha256: "dd00b8b0f3487816c96469ed5e800eadf92617170cb0831818a4edb50100c21d" },
        encoder: { bytes: 2518248, sha256: "759edcca2bc687fcd04935c692f5be03384274d7c7c1906e35b384561535ab0c" },
    },
    "J.3": {
        decoder: { bytes: 2523548, sha256: "93c61213a8d61e7ce86f7de34a6879f4cd6fa669cf86820123be5f8df5a333b9" },
        encoder: { bytes: 2518248, sha256: "54917214d7b34afb2b509ab64054c8d2aed8196d146e0b9b35acd69dcb4ef09f" },
    },
    "J.4": {
        decoder: { bytes: 2199260, sha256: "a487d4de9f6464c3fb955455c60be5344b1ea351575e506822275ae479e7fc04" },
        encoder: { bytes: 1797074, sha256: "29a597257850fdcaf0cd4360701bed05407b36f2b5c5dfa541255803e5931bd5" },
    },
    "J.5": {
        decoder: { bytes: 2210770, sha256: "fb0fcc29e0fb0947980df0d55cbe0c895849f26e62e1968bb5dc074a48d6f06b" },
        encoder: { bytes: 1796284, sha256: "c9dc3dac17230691f5c71d23be1e3055efbe1a5fb8e6587c552f753b3b4886a3" },
    },
    "J.6": {
        decoder: { bytes: 2538996, sha256: "8aa8edb3f30c381db4bb302eb3ac9f6a917878d7b2c3d381080946c16390c8db" },
        encoder: { bytes: 1796308, sha256: "43147ae99946f04ad7ba72aa67af017873c6e3ac467b266e200e40bebd97a427" },
    },
};
