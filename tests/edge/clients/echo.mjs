// The service of echo.rs, as connect-es wants it described; bytes in, bytes out.
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { BytesValueSchema, FileDescriptorProtoSchema, file_google_protobuf_wrappers } from "@bufbuild/protobuf/wkt";

const bytes = ".google.protobuf.BytesValue";
const method = (name, clientStreaming, serverStreaming) => ({
  name,
  inputType: bytes,
  outputType: bytes,
  clientStreaming,
  serverStreaming,
});

const file = create(FileDescriptorProtoSchema, {
  name: "echo.proto",
  package: "edge.test",
  syntax: "proto3",
  dependency: ["google/protobuf/wrappers.proto"],
  service: [
    {
      name: "Echo",
      method: [
        method("Unary", false, false),
        method("ServerStream", false, true),
        method("ClientStream", true, false),
        method("BidiStream", true, true),
      ],
    },
  ],
});

export const Echo = createFileRegistry(file, () => file_google_protobuf_wrappers).getService("edge.test.Echo");

export const message = (value) => create(BytesValueSchema, { value });
