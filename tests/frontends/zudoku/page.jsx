// The API-keys plugin as the package ships it, on its own settings page, inside the package's own application shell
// (StaticZudoku, which the package publishes for tests). Only signing in is ours: it hands over the token.
import { createRoot } from "react-dom/client";
import { apiKeyPlugin } from "zudoku/plugins/api-keys";
import { StaticZudoku } from "zudoku/testing";

const { api, bucket, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

const signIn = {
  signIn: async () => {},
  signOut: async () => {},
  signUp: async () => {},
  signRequest: async (request) => {
    request.headers.set("Authorization", `Bearer ${token}`);
    return request;
  },
};

createRoot(document.getElementById("root")).render(
  <StaticZudoku
    path="/settings/api-keys"
    env={{ ZUPLO_GATEWAY_SERVICE_URL: api }}
    isAuthenticated
    plugins={[signIn, apiKeyPlugin({ isZuplo: true, deploymentName: bucket })]}
  />,
);
