// The component and its default provider as the package ships them, with two buttons for what the component leaves to
// the page around it: making a consumer, and deleting one.
import { createRoot } from "react-dom/client";
import { ApiKeyManager, DefaultApiKeyManagerProvider } from "@zuplo/react-api-key-manager";
import "@zuplo/react-api-key-manager/index.css";

const { api, bucket, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const provider = new DefaultApiKeyManagerProvider(`${api}/v1/self-serve/${bucket}`, token);

const told = (call) => call.then(() => provider.refresh(), (error) => { document.title = error.message; });
const create = () => told(provider.createConsumer("Made in the browser"));
const menuItems = [{ label: "Delete", action: (consumer) => told(provider.deleteConsumer(consumer.name)) }];

createRoot(document.getElementById("root")).render(
  <>
    <button onClick={create}>Create</button>
    <ApiKeyManager provider={provider} menuItems={menuItems} />
  </>,
);
